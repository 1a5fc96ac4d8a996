package app

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// certLook is the least time between two looks at the certificate's files.
const certLook = time.Second

// certificate is one whose files are read again when they change, so that a
// renewed certificate needs no restart.
type certificate struct {
	certFile, keyFile string
	log               *slog.Logger

	mu     sync.Mutex
	pair   *tls.Certificate
	stamp  stamp // of the files that pair was read from
	looked time.Time
}

// stamp is when the certificate and its key were written: a renewed one may be
// older than the key.
type stamp [2]time.Time

func (s stamp) equal(other stamp) bool { return s[0].Equal(other[0]) && s[1].Equal(other[1]) }

// newCertificate reads the files for the first time.
func newCertificate(certFile, keyFile string, log *slog.Logger) (*certificate, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile, log: log}
	written, err := c.written()
	if err != nil {
		return nil, err
	}
	return c, c.read(written)
}

func (c *certificate) written() (s stamp, err error) {
	for i, file := range []string{c.certFile, c.keyFile} {
		info, err := os.Stat(file)
		if err != nil {
			return s, err
		}
		s[i] = info.ModTime()
	}
	return s, nil
}

func (c *certificate) read(written stamp) error {
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return err
	}
	c.pair, c.stamp = &pair, written
	return nil
}

// get returns the certificate of now. Files that cannot be read, halfway through
// a renewal perhaps, leave the one before in use.
func (c *certificate) get() *tls.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.looked) < certLook {
		return c.pair
	}
	c.looked = time.Now()
	written, err := c.written()
	if err == nil && !written.equal(c.stamp) {
		if err = c.read(written); err == nil {
			c.log.Info("certificate read anew", "file", c.certFile, "until", c.pair.Leaf.NotAfter)
		}
	}
	if err != nil {
		c.log.Error("the certificate cannot be read; the one before stays in use", "cause", err.Error(), "resolution", "correct TLS_CERT_FILE and TLS_KEY_FILE; they are read again by themselves")
	}
	return c.pair
}

// serverTLS returns the edge's TLS, or nil where it has none.
func serverTLS(cfg Config, log *slog.Logger) (*tls.Config, error) {
	if cfg.TLSCertFile == "" {
		return nil, nil
	}
	c, err := newCertificate(cfg.TLSCertFile, cfg.TLSKeyFile, log)
	if err != nil {
		return nil, &fault{exitUsage, err.Error(), "Correct TLS_CERT_FILE and TLS_KEY_FILE"}
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.get(), nil },
	}, nil
}

// workerTLS returns the TLS to workers, or nil where it is plain.
func workerTLS(cfg Config, log *slog.Logger) (*tls.Config, error) {
	if cfg.WorkerTLSCA == "" {
		return nil, nil
	}
	authority, err := os.ReadFile(cfg.WorkerTLSCA)
	if err != nil {
		return nil, &fault{exitUsage, err.Error(), "Correct WORKER_TLS_CA"}
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: x509.NewCertPool(), ServerName: cfg.WorkerTLSServerName}
	if !conf.RootCAs.AppendCertsFromPEM(authority) {
		return nil, &fault{exitUsage, fmt.Sprintf("%s holds no certificate", cfg.WorkerTLSCA), "Correct WORKER_TLS_CA"}
	}
	if cfg.WorkerTLSCert != "" {
		own, err := newCertificate(cfg.WorkerTLSCert, cfg.WorkerTLSKey, log)
		if err != nil {
			return nil, &fault{exitUsage, err.Error(), "Correct WORKER_TLS_CERT and WORKER_TLS_KEY"}
		}
		conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return own.get(), nil }
	}
	return conf, nil
}

// listenTLS is the reference worker's own TLS: it shows WORKER_TLS_CERT, and
// asks edges for one of WORKER_TLS_CA.
func listenTLS(cfg Config, log *slog.Logger) (*tls.Config, error) {
	client, err := workerTLS(cfg, log)
	if client == nil || err != nil {
		return nil, err
	}
	if client.GetClientCertificate == nil {
		return nil, &fault{exitUsage, "WORKER_TLS_CA is set, and WORKER_TLS_CERT is not", "Give the worker a certificate, or leave WORKER_TLS_CA out"}
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12, ClientCAs: client.RootCAs, ClientAuth: tls.RequireAndVerifyClientCert,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return client.GetClientCertificate(nil) },
	}, nil
}
