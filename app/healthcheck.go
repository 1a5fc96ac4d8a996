package app

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

const healthcheckTimeout = 3 * time.Second

// healthcheck asks the edge, or with --worker the worker, that runs beside it
// in the same container: images without a shell have nothing else to ask with.
func healthcheck(ctx context.Context, c command) error {
	flags := c.flags("healthcheck")
	ofWorker := flags.Bool("worker", false, "ask the worker on WORKER_PORT instead of the edge on HEALTH_PORT")
	if err := flags.Parse(c.args); err != nil {
		return usageError(err)
	}
	if err := noMore(flags); err != nil {
		return err
	}
	cfg, log, err := c.configure(c.stderr)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, healthcheckTimeout)
	defer cancel()
	if *ofWorker {
		transport := insecure.NewCredentials()
		secure, err := workerTLS(cfg, log)
		if err != nil {
			return err
		}
		if secure != nil {
			secure.InsecureSkipVerify = true //nolint:gosec // its certificate is not for this address, where nobody is between
			transport = credentials.NewTLS(secure)
		}
		return checkWorker(ctx, loopback(cfg.WorkerHost, cfg.WorkerPort), transport)
	}
	return checkEdge(ctx, "http://"+loopback(cfg.HealthHost, cfg.HealthPort)+"/readiness")
}

// loopback is how one that listens at the host is reached from its own machine.
func loopback(host string, port int) string {
	switch ip := net.ParseIP(host); {
	case ip == nil || !ip.IsUnspecified(): // an address of its own
	case ip.To4() == nil:
		host = "::1"
	default:
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, strconv.Itoa(port))
}

func checkEdge(ctx context.Context, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return &fault{exitFailed, fmt.Sprintf("the edge does not answer: %v", rootCause(err)), "See its log"}
	}
	defer func() { _ = response.Body.Close() }()
	body, _ := io.ReadAll(io.LimitReader(response.Body, 4096))
	if response.StatusCode != http.StatusOK {
		return &fault{exitFailed, fmt.Sprintf("the edge is not ready: %s", strings.TrimSpace(string(body))), "See /health on the same port"}
	}
	return nil
}

func checkWorker(ctx context.Context, addr string, transport credentials.TransportCredentials) error {
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(transport))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	reply, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{})
	if err != nil {
		return &fault{exitFailed, fmt.Sprintf("the worker does not answer: %v", err), "See its log"}
	}
	if reply.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		return &fault{exitFailed, "the worker reports " + reply.GetStatus().String(), "See its log"}
	}
	return nil
}
