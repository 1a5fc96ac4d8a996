package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// toxiproxyVersion is that of the Go module, installed as a program of its own
// so that none of it is among voxedge's dependencies.
const toxiproxyVersion = "v2.5.0"

var toxiproxyBinary = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(os.TempDir(), "voxedge-toxiproxy-"+toxiproxyVersion)
	path := filepath.Join(dir, "server")
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	install := exec.Command("go", "install", "github.com/Shopify/toxiproxy/v2/cmd/server@"+toxiproxyVersion)
	install.Env = append(os.Environ(), "GOBIN="+dir, "GOFLAGS=")
	if out, err := install.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return path, nil
})

// toxiproxy is a running Toxiproxy.
type toxiproxy struct {
	t   testing.TB
	api string
}

func startToxiproxy(t *testing.T) *toxiproxy {
	t.Helper()
	path, err := toxiproxyBinary()
	if err != nil {
		t.Fatal("toxiproxy cannot be installed: ", err)
	}
	port := freePort(t)
	cmd := exec.Command(path, "-host", "127.0.0.1", "-port", fmt.Sprint(port))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	awaitPort(t, port)
	return &toxiproxy{t, fmt.Sprintf("http://127.0.0.1:%d", port)}
}

// awaitPort waits for a program that tells no one when it listens.
func awaitPort(t *testing.T, port int) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			_ = conn.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("nothing listens on port %d: %v", port, err)
		}
	}
}

// proxy is a port that leads to another, until it is poisoned.
type proxy struct {
	tp   *toxiproxy
	name string
	addr string
}

func (tp *toxiproxy) to(name, upstream string) *proxy {
	tp.t.Helper()
	var made struct{ Listen string }
	tp.call(http.MethodPost, "/proxies", map[string]any{"name": name, "listen": "127.0.0.1:0", "upstream": upstream, "enabled": true}, &made)
	return &proxy{tp, name, made.Listen}
}

// poison adds a toxic to what flows from the upstream to the client, or with
// the stream "upstream" the other way.
func (p *proxy) poison(kind, stream string, attributes map[string]any) {
	p.tp.t.Helper()
	p.tp.call(http.MethodPost, "/proxies/"+p.name+"/toxics",
		map[string]any{"name": kind + stream, "type": kind, "stream": stream, "attributes": attributes}, nil)
}

// cure removes a toxic.
func (p *proxy) cure(kind, stream string) {
	p.tp.t.Helper()
	p.tp.call(http.MethodDelete, "/proxies/"+p.name+"/toxics/"+kind+stream, nil, nil)
}

// cut closes the port and all connections through it; mend opens it again.
func (p *proxy) cut()  { p.enable(false) }
func (p *proxy) mend() { p.enable(true) }

func (p *proxy) enable(on bool) {
	p.tp.t.Helper()
	p.tp.call(http.MethodPost, "/proxies/"+p.name, map[string]any{"enabled": on, "listen": p.addr}, nil)
}

// lead makes new connections go elsewhere.
func (p *proxy) lead(upstream string) {
	p.tp.t.Helper()
	p.tp.call(http.MethodPost, "/proxies/"+p.name, map[string]any{"upstream": upstream, "listen": p.addr, "enabled": true}, nil)
}

func (tp *toxiproxy) call(method, path string, body, answer any) {
	tp.t.Helper()
	data, err := json.Marshal(body)
	if err != nil {
		tp.t.Fatal(err)
	}
	request, err := http.NewRequest(method, tp.api+path, bytes.NewReader(data))
	if err != nil {
		tp.t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		tp.t.Fatal(err)
	}
	defer response.Body.Close()
	text, _ := io.ReadAll(response.Body)
	if response.StatusCode >= 300 {
		tp.t.Fatalf("toxiproxy: %s %s: %s", method, path, text)
	}
	if answer != nil {
		if err := json.Unmarshal(text, answer); err != nil {
			tp.t.Fatal(err)
		}
	}
}
