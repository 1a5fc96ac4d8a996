package app

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
)

func TestCertificatesThatAreNoneAreTheConfigurationsFault(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"nowhere.pem", empty} {
		_, public := serverTLS(Config{TLSCertFile: file, TLSKeyFile: file}, slog.New(slog.DiscardHandler))
		_, inner := workerTLS(Config{WorkerTLSCA: file}, slog.New(slog.DiscardHandler))
		for _, err := range []error{public, inner} {
			if f, ok := errors.AsType[*fault](err); !ok || f.status != exitUsage || f.resolution == "" {
				t.Errorf("%s: %v", file, err)
			}
		}
	}
}
