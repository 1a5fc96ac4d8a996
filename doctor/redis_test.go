package doctor

import (
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestCausesOfRedis(t *testing.T) {
	dial := func(err error) error { return &net.OpError{Op: "dial", Net: "tcp", Err: err} }
	for _, tt := range []struct {
		err  error
		want Cause
	}{
		{errors.New("tls: failed to verify certificate: x509: certificate signed by unknown authority"), RedisCertificate},
		{errors.New("tls: failed to verify certificate: x509: certificate is valid for a, not b"), RedisCertificate},
		{errors.New("remote error: tls: certificate required"), RedisCertificate},
		{errors.New("tls: first record does not look like a TLS handshake"), RedisTLS},
		{io.EOF, RedisTLS},
		{errors.New("ERR max number of clients reached"), RedisError},
		{errors.New("DENIED Redis is running in protected mode"), RedisError},
		{errors.New("READONLY You can't write against a read only replica."), RedisError},
		{errors.New("OOM command not allowed when used memory > 'maxmemory'."), RedisError},
		{dial(syscall.EHOSTUNREACH), RedisNoRoute},
		{dial(syscall.ENETUNREACH), RedisNoRoute},
		{errors.New("dial tcp 10.0.0.1:6379: connect: no route to host"), RedisNoRoute},
		{errNoRedisURL, ConfigInvalid},
		{errors.New("invalid reply: \"HTTP/1.1 400 Bad Request\""), RedisNot},
	} {
		if got := redisCause(tt.err); got.ID != tt.want.ID {
			t.Errorf("%v: %s, want %s", tt.err, got.ID, tt.want.ID)
		}
	}
}

// A Redis that turns a connection away says why before it is asked, and hangs up.
func TestARedisThatTurnsAway(t *testing.T) {
	for _, words := range []string{"-ERR max number of clients reached\r\n", "-DENIED Redis is running in protected mode because protected mode is enabled\r\n"} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			for {
				conn, err := ln.Accept()
				if err != nil {
					return
				}
				_, _ = io.WriteString(conn, words)
				_ = conn.Close()
			}
		}()
		if cause, err := pingRedis(t.Context(), "redis://"+ln.Addr().String()); cause.ID != RedisError.ID {
			t.Errorf("%q: %s (%v)", words, cause.ID, err)
		}
		_ = ln.Close()
	}
}

func TestRedisAtAUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "redis.sock")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			_, _ = fmt.Fprint(conn, "-LOADING Redis is loading the dataset in memory\r\n")
			_ = conn.Close()
		}
	}()
	if cause, err := pingRedis(t.Context(), "unix://"+path); cause.ID != RedisLoading.ID {
		t.Errorf("%s (%v)", cause.ID, err)
	}
}

func TestTheSessionsRedisIsNamed(t *testing.T) {
	for _, url := range []string{"redis://127.0.0.1:1", "http://localhost"} {
		e := &examination{here: true, Options: Options{Environ: map[string]string{"SESSION_REDIS_URL": url}}}
		s := e.checkSessionRedis(t.Context())
		for _, text := range []string{s.Resolution, s.Because + s.Resolution} {
			if s.Result != Failed || !strings.Contains(text, "SESSION_REDIS_URL") || strings.Contains(text, " REDIS_URL") {
				t.Errorf("%s: %+v %+v", url, s, s.Finding)
			}
		}
	}
}
