package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/coder/websocket"
	"github.com/redis/go-redis/v9"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	grpchealth "google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/voxedge/voxedge/doctor"
	"github.com/voxedge/voxedge/proto"
)

// innerFaults lie behind the edge: Redis and the workers.
var innerFaults = []fault{
	{"no Redis listens", doctor.RedisClosed, func(s *scene) {
		s.around()
		s.redis.kill()
		s.edge()
	}, func(s *scene) {
		s.redis.start()
		s.worker("w1")
	}},
	{"Redis was killed while the edge ran", doctor.RedisClosed, func(s *scene) {
		s.whole()
		s.redis.kill()
		s.served.await(1, "check failed", "check", "redis")
	}, func(s *scene) { s.redis.start() }},
	{"Redis' host does not exist", doctor.RedisName, func(s *scene) {
		s.around("w1")
		s.edge("REDIS_URL=redis://no..host:6379")
	}, (*scene).edgeAnew},
	{"Redis asks for a password", doctor.RedisAuth, func(s *scene) {
		s.whole()
		s.tellRedis("CONFIG", "SET", "requirepass", "secret")
		s.served.stop()
		s.edge()
	}, (*scene).edgeWithPassword},
	{"the password for Redis is wrong", doctor.RedisAuth, func(s *scene) {
		s.whole()
		s.tellRedis("CONFIG", "SET", "requirepass", "secret")
		s.served.stop()
		s.edge("REDIS_URL=redis://:wrong@" + s.redis.addr())
	}, (*scene).edgeWithPassword},
	{"Redis is loading its data", doctor.RedisLoading, (*scene).loading, func(s *scene) { s.leave(); s.worker("w1") }},
	{"Redis has no such database", doctor.RedisDatabase, func(s *scene) {
		s.around("w1")
		s.edge("REDIS_URL=" + s.redis.url() + "/99")
	}, (*scene).edgeAnew},
	{"Redis is stopped with SIGSTOP", doctor.RedisHung, func(s *scene) {
		s.whole()
		_ = s.redis.cmd.Process.Signal(syscall.SIGSTOP)
		s.served.await(1, "check failed", "check", "redis")
	}, func(s *scene) { _ = s.redis.cmd.Process.Signal(syscall.SIGCONT) }},
	{"REDIS_URL says TLS, and Redis is plain", doctor.RedisTLS, func(s *scene) {
		s.around("w1")
		s.edge("REDIS_URL=rediss://" + s.redis.addr())
	}, (*scene).edgeAnew},
	{"REDIS_URL names a web server", doctor.RedisNot, func(s *scene) {
		s.around("w1")
		addr, _ := s.listener(0, func(c net.Conn) { _, _ = c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n")) })
		s.edge("REDIS_URL=redis://" + addr)
	}, (*scene).edgeAnew},
	{"packets to Redis are dropped", doctor.RedisDropped, func(s *scene) {
		s.around("w1")
		s.edge("REDIS_URL=redis://" + s.full())
	}, (*scene).edgeAnew},
	{"Redis' certificate is self-signed", doctor.RedisCertificate, func(s *scene) {
		s.whole()
		s.served.stop()
		host, _, _ := strings.Cut(s.secured(certificate{untrusted: true}), "/")
		s.edge("REDIS_URL=rediss://" + host)
	}, (*scene).edgeAnew},
	{"Redis is a read-only replica", doctor.RedisError, func(s *scene) {
		s.whole()
		s.tellRedis("REPLICAOF", "127.0.0.1", "1")
	}, func(s *scene) { s.tellRedis("REPLICAOF", "NO", "ONE") }},
	{"Redis has no memory left", doctor.RedisError, func(s *scene) {
		s.whole()
		s.tellRedis("CONFIG", "SET", "maxmemory", "1")
	}, func(s *scene) { s.tellRedis("CONFIG", "SET", "maxmemory", "0") }},
	{"the Redis of sessions is a read-only replica", doctor.RedisError, func(s *scene) {
		s.whole()
		second := startRedis(s.T)
		s.served.stop()
		s.edge("SESSION_REDIS_URL="+second.url()).await(1, "worker is healthy")
		first := s.redis
		s.redis = second
		s.tellRedis("REPLICAOF", "127.0.0.1", "1")
		s.redis = first
	}, (*scene).edgeAnew},
	{"the edge may not write to Redis", doctor.RedisError, func(s *scene) {
		s.around("w1")
		s.tellRedis("ACL", "SETUSER", "edge", "on", ">secret", "~*", "&*", "+@all", "-@write")
		s.edge("REDIS_URL=redis://edge:secret@" + s.redis.addr())
	}, (*scene).edgeAnew},
	{"the edge may not look for workers in Redis", doctor.RedisError, func(s *scene) {
		s.around("w1")
		s.tellRedis("ACL", "SETUSER", "edge", "on", ">secret", "~*", "&*", "+@all", "-scan")
		s.edge("REDIS_URL=redis://edge:secret@" + s.redis.addr())
	}, (*scene).edgeAnew},
	{"no worker is announced", doctor.NoWorker, func(s *scene) {
		s.around()
		s.edge()
	}, func(s *scene) { s.worker("w1") }},
	{"the worker was stopped", doctor.NoWorker, func(s *scene) {
		s.whole()
		s.work.stop()
		s.served.await(1, "worker went")
	}, func(s *scene) { s.worker("w2") }},
	{"the worker was killed with kill -9", doctor.WorkerClosed, func(s *scene) {
		s.whole()
		s.work.kill()
	}, func(s *scene) { s.worker("w1") }},
	{"one worker was killed and the other is stopped", doctor.WorkerClosed, func(s *scene) {
		s.whole()
		other := s.worker("w2")
		s.served.await(1, "worker is healthy", "worker", "w2")
		other.signal(syscall.SIGSTOP)
		s.work.kill()
		s.leave = func() { other.signal(syscall.SIGCONT) }
	}, func(s *scene) {
		s.leave()
		s.worker("w1")
	}},
	{"WORKER_ADDR names the wrong port", doctor.WorkerClosed, func(s *scene) {
		s.around("w1")
		s.edge(fmt.Sprint("WORKER_ADDR=127.0.0.1:", freePort(s.T)))
	}, (*scene).edgeAnew},
	{"the worker is stopped with SIGSTOP", doctor.WorkerHung, func(s *scene) {
		s.whole()
		s.work.signal(syscall.SIGSTOP)
		s.served.await(1, "check failed", "check", "worker")
	}, func(s *scene) { s.work.signal(syscall.SIGCONT) }},
	{"packets to the worker are dropped", doctor.WorkerDropped, func(s *scene) {
		s.around("w1")
		s.edge("WORKER_ADDR=" + s.full())
	}, (*scene).edgeAnew},
	{"the worker listens and does not serve", doctor.WorkerNotServing, func(s *scene) {
		s.around("w1")
		health := grpchealth.NewServer()
		health.SetServingStatus("", healthpb.HealthCheckResponse_NOT_SERVING)
		s.edge("WORKER_ADDR=" + s.grpc(func(g *grpc.Server) {
			healthpb.RegisterHealthServer(g, health)
			proto.RegisterTTSServiceServer(g, &oddWorker{})
		}))
		s.leave = func() { health.SetServingStatus("", healthpb.HealthCheckResponse_SERVING) }
	}, (*scene).edgeAnew},
	{"WORKER_ADDR names another gRPC service", doctor.WorkerWrongService, func(s *scene) {
		s.around("w1")
		s.edge("WORKER_ADDR=" + s.grpc(func(g *grpc.Server) { healthpb.RegisterHealthServer(g, grpchealth.NewServer()) }))
	}, (*scene).edgeAnew},
	{"WORKER_ADDR names a web server", doctor.WorkerNotGRPC, func(s *scene) {
		s.around("w1")
		at := s.url
		s.web(func(http.ResponseWriter, *http.Request) {})
		addr := strings.TrimSuffix(strings.TrimPrefix(s.url, "ws://"), "/v1/stream")
		s.url = at
		s.edge("WORKER_ADDR=" + addr)
	}, (*scene).edgeAnew},
	{"the worker speaks TLS, and the edge does not", doctor.WorkerTLS, func(s *scene) {
		cert, key, authority := certificate{client: true}.files(s.T, s.TempDir())
		s.around("w1")
		port := freePort(s.T)
		s.worker("secure", fmt.Sprint("WORKER_PORT=", port), "WORKER_TLS_CA="+authority, "WORKER_TLS_CERT="+cert, "WORKER_TLS_KEY="+key)
		s.edge(fmt.Sprint("WORKER_ADDR=127.0.0.1:", port))
	}, (*scene).edgeAnew},
	{"the edge speaks TLS, and the worker does not", doctor.WorkerTLS, func(s *scene) {
		_, _, authority := certificate{}.files(s.T, s.TempDir())
		s.around("w1")
		s.edge("WORKER_TLS_CA=" + authority)
	}, (*scene).edgeAnew},
	{"a worker announces an address that does not exist", doctor.WorkerUnreachable, func(s *scene) {
		s.around()
		s.tellRedis("SET", "worker:gpu1", `{"name":"gpu1","addr":"grpc://no..host:50051"}`)
		s.edge()
	}, func(s *scene) { s.worker("gpu1") }},
	{"a worker's announcement cannot be read", doctor.WorkerBadAnnounce, func(s *scene) {
		s.around()
		s.tellRedis("SET", "worker:gpu1", `{"name":"gpu1","addr":"gpu1"}`)
		s.edge()
	}, func(s *scene) { s.worker("gpu1") }},
	{"the worker has all its sessions", doctor.WorkersBusy, func(s *scene) {
		s.around()
		s.work = s.worker("w1", "WORKER_MAX_SESSIONS=1")
		s.edge().await(1, "worker is healthy")
		c := connect(s.T, s.url)
		c.say("one")
		c.next()
		s.leave = func() { _ = c.ws.Close(websocket.StatusNormalClosure, "") }
	}, func(s *scene) { s.leave() }},
	{"the worker fails at every text", doctor.SynthesisFailed, func(s *scene) {
		s.odd(func(proto.TTSService_SynthesizeServer) error { return errors.New("out of tune") })
	}, (*scene).edgeAnew},
	{"the worker makes no sound", doctor.NoAudio, func(s *scene) {
		s.odd(func(stream proto.TTSService_SynthesizeServer) error { <-stream.Context().Done(); return nil })
	}, (*scene).edgeAnew},
	{"the worker ends without a frame", doctor.NoAudio, func(s *scene) { s.odd(func(proto.TTSService_SynthesizeServer) error { return nil }) }, (*scene).edgeAnew},
	{"the worker is slower than speech", doctor.SlowSpeech, func(s *scene) {
		s.odd(func(stream proto.TTSService_SynthesizeServer) error {
			for range 20 {
				if err := stream.Send(&proto.AudioFrame{AudioData: make([]byte, 1920)}); err != nil {
					return err
				}
				time.Sleep(60 * time.Millisecond) // as a slow engine does
			}
			return nil
		})
	}, (*scene).edgeAnew},
}

// edgeAnew corrects the edge's environment: it starts one that has the Redis
// and the worker that are well.
func (s *scene) edgeAnew() {
	s.served.stop()
	s.edge().await(1, "worker is healthy")
}

func (s *scene) edgeWithPassword() {
	s.served.stop()
	s.edge("REDIS_URL=redis://:secret@"+s.redis.addr()).await(1, "worker is healthy")
}

func (s *scene) tellRedis(command ...any) {
	s.Helper()
	client := redis.NewClient(&redis.Options{Addr: s.redis.addr()})
	defer func() { _ = client.Close() }()
	if err := client.Do(s.Context(), command...).Err(); err != nil && !errors.Is(err, redis.Nil) {
		s.Fatal(err)
	}
}

// loading has an edge before a Redis that takes its time to read its data.
func (s *scene) loading() {
	s.whole()
	s.redis.kill()
	dir := s.TempDir()
	serve := func(more ...string) (stop func()) {
		cmd := exec.Command("redis-server", append([]string{"--port", fmt.Sprint(s.redis.port), "--bind", "127.0.0.1", "--dir", dir, "--loglevel", "warning"}, more...)...)
		if err := cmd.Start(); err != nil {
			s.Fatal(err)
		}
		stop = func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }
		s.Cleanup(stop)
		awaitPort(s.T, s.redis.port)
		return stop
	}
	stop := serve()
	s.tellRedis("EVAL", "for i = 1, 60000 do redis.call('SET', 'k' .. i, i) end", "0")
	s.tellRedis("SAVE")
	stop()
	stop = serve("--key-load-delay", "1000", "--loading-process-events-interval-bytes", "1024")
	s.served.await(1, "check failed", "check", "redis")
	s.leave = func() {
		stop()
		s.redis.start()
	}
}

// exhaust has the edge ask for more memory than it may have.
func (s *scene) exhaust() {
	var usage unix.Rlimit
	pid := s.served.cmd.Process.Pid
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		s.Fatal(err)
	}
	var pages uint64
	if _, err := fmt.Sscan(string(data), &pages); err != nil {
		s.Fatal(err)
	}
	usage.Cur = pages*uint64(os.Getpagesize()) + 1<<20 //nolint:gosec // a page's size
	usage.Max = usage.Cur
	if err := unix.Prlimit(pid, unix.RLIMIT_AS, &usage, nil); err != nil {
		s.Fatal(err)
	}
	for i := 0; ; i++ {
		dialing, cancel := context.WithTimeout(s.Context(), time.Second)
		ws, _, err := websocket.Dial(dialing, s.url, nil)
		cancel()
		if err == nil {
			go func() { // until the test ends: each is read slowly, and all are kept
				_ = ws.Write(s.Context(), websocket.MessageText, []byte(`{"type":"text","text":"`+strings.Repeat("x", 15<<20)+`"}`))
			}()
		}
		select {
		case <-s.served.done:
			s.served.forgive()
			return
		case <-time.After(100 * time.Millisecond):
		}
		if i == 100 {
			s.Fatal("it lives on")
		}
	}
}

// grpc serves gRPC at a port of its own.
func (s *scene) grpc(register func(*grpc.Server)) (addr string) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.Fatal(err)
	}
	g := grpc.NewServer()
	register(g)
	done := make(chan error, 1)
	go func() { done <- g.Serve(ln) }()
	s.Cleanup(func() { g.Stop(); <-done })
	return ln.Addr().String()
}

// odd has an edge before a worker that does not speak as it should, beside one
// that is well and that the edge is not told of.
func (s *scene) odd(speak func(proto.TTSService_SynthesizeServer) error) {
	s.around("w1")
	s.edge("WORKER_ADDR="+s.grpc(func(g *grpc.Server) { proto.RegisterTTSServiceServer(g, &oddWorker{speak: speak}) })).await(1, "worker is healthy")
}

// oddWorker is a worker of which nothing is right but its form.
type oddWorker struct {
	proto.UnimplementedTTSServiceServer
	speak func(proto.TTSService_SynthesizeServer) error
}

func (*oddWorker) GetCapabilities(context.Context, *proto.GetCapabilitiesRequest) (*proto.GetCapabilitiesResponse, error) {
	return &proto.GetCapabilitiesResponse{Capabilities: &proto.Capabilities{}}, nil
}

func (*oddWorker) StartSession(context.Context, *proto.StartSessionRequest) (*proto.StartSessionResponse, error) {
	return &proto.StartSessionResponse{Success: true}, nil
}

func (w *oddWorker) Synthesize(stream proto.TTSService_SynthesizeServer) error {
	for {
		if _, err := stream.Recv(); err != nil {
			break
		}
	}
	return w.speak(stream)
}
