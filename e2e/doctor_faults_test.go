package e2e

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/coder/websocket"

	"github.com/voxedge/voxedge/doctor"
)

var faults = append(clientFaults, innerFaults...)

// clientFaults lie between the client and the edge's session.
var clientFaults = []fault{
	{"the URL begins with http://", doctor.URLScheme, func(s *scene) {
		s.whole()
		s.url = strings.Replace(s.url, "ws:", "http:", 1)
	}, (*scene).rightURL},
	{"the URL begins with https://", doctor.URLScheme, func(s *scene) {
		s.whole()
		s.url = strings.Replace(s.url, "ws:", "https:", 1)
	}, (*scene).rightURL},
	{"the URL has no scheme", doctor.URLInvalid, func(s *scene) {
		s.whole()
		s.url = fmt.Sprintf("localhost:%d/v1/stream", s.port)
	}, (*scene).rightURL},
	{"the URL has a bare address", doctor.URLInvalid, func(s *scene) {
		s.whole()
		s.url = fmt.Sprintf("127.0.0.1:%d", s.port)
	}, (*scene).rightURL},
	{"the host's name is wrong", doctor.NameNotFound, func(s *scene) {
		s.whole()
		s.url = fmt.Sprintf("ws://no..host:%d/v1/stream", s.port)
	}, (*scene).rightURL},
	{"the URL names the health port", doctor.HealthPort, func(s *scene) {
		s.whole()
		s.url = fmt.Sprintf("ws://127.0.0.1:%d/", s.health)
	}, (*scene).rightURL},
	{"the port is held by the health port of another edge", doctor.HealthPort, func(s *scene) {
		s.whole()
		other := freePort(s.T)
		start(s.T, "another edge", []string{"HOST=127.0.0.1", "PORT=0", "HEALTH_HOST=127.0.0.1", fmt.Sprint("HEALTH_PORT=", other), "REDIS_URL=" + s.redis.url()}, "serve").await(1, "listening")
		s.url = fmt.Sprintf("ws://127.0.0.1:%d/v1/stream", other)
	}, (*scene).rightURL},
	{"the path is wrong", doctor.WrongPath, func(s *scene) {
		s.whole()
		s.url = fmt.Sprintf("ws://127.0.0.1:%d/v2/stream", s.port)
	}, (*scene).rightURL},
	{"nothing listens at the port", doctor.PortClosed, func(s *scene) {
		s.around("w1")
		s.port, s.health = freePort(s.T), freePort(s.T)
		s.env = []string{"RUN_DIR=" + s.TempDir()}
		s.url = fmt.Sprintf("ws://127.0.0.1:%d/v1/stream", s.port)
	}, func(s *scene) { s.edge() }},
	{"the edge listens at another address", doctor.OtherAddress, func(s *scene) {
		s.whole()
		s.url = fmt.Sprintf("ws://127.0.0.2:%d/v1/stream", s.port)
	}, (*scene).rightURL},
	{"another program listens at another address of the port", doctor.PortClosed, func(s *scene) {
		s.around("w1")
		addr, stop := s.listener(0, func(net.Conn) {})
		_, port, _ := strings.Cut(addr, ":")
		s.url = "ws://127.0.0.2:" + port + "/v1/stream"
		s.leave = stop
	}, func(s *scene) { s.leave(); s.edge() }},
	{"the edge was stopped", doctor.PortClosed, func(s *scene) {
		s.whole()
		s.served.stop()
	}, func(s *scene) { s.edge() }},
	{"the edge was killed with kill -9", doctor.EdgeCrashed, func(s *scene) {
		s.whole()
		s.served.kill()
	}, func(s *scene) { s.edge() }},
	{"the edge ended with a segmentation fault", doctor.EdgeCrashed, func(s *scene) {
		s.whole()
		s.served.signal(syscall.SIGSEGV)
		<-s.served.done
		s.served.forgive()
	}, func(s *scene) { s.edge() }},
	{"the edge ran out of memory", doctor.EdgeOutOfMemory, func(s *scene) {
		withoutRaceDetector(s.T) // which does not let Go say what it died of
		s.whole("MAX_MESSAGE_BYTES=16777216")
		s.exhaust()
	}, func(s *scene) { s.edge() }},
	{"the edge is stopped with SIGSTOP", doctor.ProcessStopped, func(s *scene) {
		s.whole()
		s.served.signal(syscall.SIGSTOP)
	}, func(s *scene) { s.served.signal(syscall.SIGCONT) }},
	{"packets to the port are dropped", doctor.PacketsDropped, func(s *scene) {
		s.whole()
		s.url = "ws://" + s.full() + "/v1/stream"
	}, (*scene).rightURL},
	{"a silent program listens at the port", doctor.Silent, func(s *scene) {
		s.whole()
		addr, _ := s.listener(0, func(net.Conn) {})
		s.url = "ws://" + addr + "/v1/stream"
	}, (*scene).rightURL},
	{"a silent program listens at the port, and the URL says TLS", doctor.Silent, func(s *scene) {
		s.whole()
		addr, _ := s.listener(0, func(net.Conn) {})
		s.url = "wss://" + addr + "/v1/stream"
	}, (*scene).rightURL},
	{"another program at the port hangs up", doctor.OtherProgram, func(s *scene) {
		s.whole()
		addr, _ := s.listener(0, func(c net.Conn) { _ = c.Close() })
		s.url = "ws://" + addr + "/v1/stream"
	}, (*scene).rightURL},
	{"a load balancer has no target", doctor.ConnectionReset, func(s *scene) {
		s.whole()
		s.served.stop()
		s.url = "ws://" + startToxiproxy(s.T).to("edge", fmt.Sprintf("127.0.0.1:%d", s.port)).addr + "/v1/stream"
	}, func(s *scene) { at := s.url; s.edge(); s.url = at }},
	{"the port is held by Python's web server", doctor.OtherProgram, func(s *scene) {
		s.whole()
		port := freePort(s.T)
		cmd := exec.Command(need(s.T, "python3"), "-m", "http.server", "--bind", "127.0.0.1", fmt.Sprint(port))
		if err := cmd.Start(); err != nil {
			s.Fatal(err)
		}
		s.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		awaitPort(s.T, port)
		s.url = fmt.Sprintf("ws://127.0.0.1:%d/v1/stream", port)
	}, (*scene).rightURL},
	{"the port is held by Redis", doctor.OtherProgram, func(s *scene) {
		s.whole()
		s.url = "ws://" + s.redis.addr() + "/v1/stream"
	}, (*scene).rightURL},
	{"the port is held by an SSH server", doctor.OtherProgram, func(s *scene) {
		s.whole()
		addr, _ := s.listener(0, func(c net.Conn) { _, _ = io.WriteString(c, "SSH-2.0-OpenSSH_9.2\r\n") })
		s.url = "ws://" + addr + "/v1/stream"
	}, (*scene).rightURL},
	{"another WebSocket service answers", doctor.NoSessionStart, func(s *scene) {
		s.whole()
		s.web(func(w http.ResponseWriter, r *http.Request) {
			ws, err := websocket.Accept(w, r, nil)
			if err != nil {
				return
			}
			_ = ws.Write(r.Context(), websocket.MessageText, []byte(`{"hello":"world"}`))
			_, _, _ = ws.Read(r.Context())
		})
	}, (*scene).rightURL},
	{"the URL says wss, and the port is plain", doctor.TLSToPlain, func(s *scene) {
		s.whole()
		s.url = strings.Replace(s.url, "ws:", "wss:", 1)
	}, (*scene).rightURL},
	{"the URL says ws, and the port speaks TLS", doctor.PlainToTLS, func(s *scene) {
		s.whole()
		s.url = "ws://" + s.secured(certificate{})
	}, func(s *scene) { s.url = strings.Replace(s.url, "ws:", "wss:", 1) }},
	{"the certificate has expired", doctor.CertExpired, func(s *scene) {
		s.whole()
		s.url = "wss://" + s.secured(certificate{until: time.Now().Add(-time.Hour)})
	}, func(s *scene) { s.url = "wss://" + s.secured(certificate{}) }},
	{"the certificate is not valid yet", doctor.CertExpired, func(s *scene) {
		s.whole()
		s.url = "wss://" + s.secured(certificate{from: time.Now().Add(time.Hour), until: time.Now().Add(2 * time.Hour)})
	}, func(s *scene) { s.url = "wss://" + s.secured(certificate{}) }},
	{"the certificate is for another name", doctor.CertName, func(s *scene) {
		s.whole()
		s.url = "wss://" + s.secured(certificate{name: "other.example"})
	}, func(s *scene) { s.url = "wss://" + s.secured(certificate{}) }},
	{"the certificate is self-signed", doctor.CertUnknown, func(s *scene) {
		s.whole()
		s.url = "wss://" + s.secured(certificate{untrusted: true})
	}, func(s *scene) { s.url = "wss://" + s.secured(certificate{}) }},
	{"the server wants a certificate of the client", doctor.TLSFailed, func(s *scene) {
		s.whole()
		s.url = "wss://" + s.secured(certificate{wanted: true})
	}, func(s *scene) { s.url = "wss://" + s.secured(certificate{}) }},
	{"a proxy drops the Upgrade header", doctor.UpgradeStripped, func(s *scene) {
		s.whole()
		s.web(s.proxied(func(r *http.Request) { r.Header.Del("Upgrade"); r.Header.Del("Connection") }))
	}, func(s *scene) { s.web(s.proxied(func(*http.Request) {})) }},
	{"the proxy's upstream is closed", doctor.BadGateway, func(s *scene) {
		s.whole()
		s.served.stop()
		s.web(s.proxied(func(*http.Request) {}))
	}, func(s *scene) { at := s.url; s.edge(); s.url = at }},
	{"the proxy has no edge that is ready", doctor.NoUpstream, answering(503), (*scene).rightURL},
	{"the proxy waits for its edge in vain", doctor.GatewayTimeout, answering(504), (*scene).rightURL},
	{"the proxy wants a password", doctor.Unauthorized, (*scene).guarded, func(s *scene) { s.args = []string{"--header", "Authorization: Bearer right"} }},
	{"a web application firewall forbids", doctor.Forbidden, answering(403), (*scene).rightURL},
	{"the proxy limits the rate", doctor.RateLimited, answering(429), (*scene).rightURL},
	{"the proxy redirects", doctor.Redirected, func(s *scene) {
		s.whole()
		s.web(func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, fmt.Sprintf("http://127.0.0.1:%d/v1/stream", s.port), http.StatusMovedPermanently)
		})
	}, (*scene).rightURL},
	{"the edge has all its sessions", doctor.AtCapacity, func(s *scene) {
		s.whole("MAX_CONNECTIONS=1")
		ws, _, err := websocket.Dial(s.Context(), s.url, nil)
		if err != nil {
			s.Fatal(err)
		}
		s.Cleanup(func() { _ = ws.CloseNow() })
		s.leave = func() { _ = ws.Close(websocket.StatusNormalClosure, "") }
	}, func(s *scene) { s.leave() }},
	{"the edge limits the characters of an address", doctor.RateLimited, func(s *scene) { s.whole("ADDRESS_CHARACTERS_PER_MINUTE=5") }, (*scene).edgeAnew},
	{"the edge takes no utterance of that length", doctor.Refused, func(s *scene) { s.whole("MAX_UTTERANCE_CHARS=5") }, (*scene).edgeAnew},
	{"the edge is being stopped", doctor.EdgeDraining, func(s *scene) {
		s.whole("SHUTDOWN_TIMEOUT=30s")
		c := connect(s.T, s.url)
		c.say(strings.Repeat("a long text ", 40))
		c.next()
		s.served.signal(syscall.SIGTERM)
		s.served.await(1, "draining")
		s.leave = func() { _ = c.ws.CloseNow() }
	}, func(s *scene) {
		s.leave()
		<-s.served.done
		s.edge()
	}},
}

// rightURL is the edge's own.
func (s *scene) rightURL() {
	s.url = fmt.Sprintf("ws://127.0.0.1:%d/v1/stream", s.port)
	s.args = nil
}

// answering puts a proxy before the edge that answers everything with a status.
func answering(status int) func(*scene) {
	return func(s *scene) {
		s.whole()
		s.web(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, http.StatusText(status), status) })
	}
}

func (s *scene) guarded() {
	s.whole()
	pass := s.proxied(func(*http.Request) {})
	s.web(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer right" {
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		pass(w, r)
	})
}

// web serves HTTP at a port of its own, which the doctor is sent to.
func (s *scene) web(handle http.HandlerFunc) {
	server := httptest.NewServer(handle)
	s.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	s.url = strings.Replace(server.URL, "http:", "ws:", 1) + "/v1/stream"
}

// proxied passes requests on to the edge, once they are changed.
func (s *scene) proxied(change func(*http.Request)) http.HandlerFunc {
	upstream, err := url.Parse(fmt.Sprintf("http://127.0.0.1:%d", s.port))
	if err != nil {
		s.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(upstream)
		change(r.Out)
	}}
	return proxy.ServeHTTP
}

// secured puts TLS before the edge and returns where.
func (s *scene) secured(c certificate) (hostAndPath string) {
	cert, authority := c.make(s.T)
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12, ClientAuth: c.clientAuth()})
	if err != nil {
		s.Fatal(err)
	}
	server := &http.Server{Handler: s.proxied(func(*http.Request) {}), ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(ln) }()
	s.Cleanup(func() { _ = server.Close() })
	s.env = append([]string{"SSL_CERT_FILE=" + authority, "SSL_CERT_DIR=/nowhere"}, s.env[len(s.env)-1])
	return ln.Addr().String() + "/v1/stream"
}

// full returns the address of a port whose queue of connections is full: the
// kernel drops what comes then, as a firewall does.
func (s *scene) full() string {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { _ = syscall.Close(fd) })
	port := freePort(s.T)
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		s.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		s.Fatal(err)
	}
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	for {
		ctx, cancel := context.WithTimeout(s.Context(), 500*time.Millisecond)
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		cancel()
		if err != nil {
			return addr
		}
		s.Cleanup(func() { _ = conn.Close() })
	}
}
