package doctor

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestShown(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"redis://SECRET@host:6379 answers", "redis://***@host:6379 answers"},
		{"redis://u:p@ss/w@host", "redis://***@host"},
		{"redis://a@h,redis://b@h", "redis://***@h"},
		{"to ws://h/?model=en&after=3&pacing=none&language=de", "to ws://h/?model=en&after=3&pacing=none&language=de"},
		{"ws://h/?x=SECRET&model=a;SECRET#y=SECRET", "ws://h/?x=***&model=***#y=***"},
		{"\x1b[2Jgone\r\nand\tback", "\\x1b[2Jgone and back"},
		{"turned\u202eround, Grüße", "turned\\u202eround, Grüße"},
		{"grpc://gpu1:50051 serves", "grpc://gpu1:50051 serves"},
	} {
		if got := Shown(tt.text); got != tt.want {
			t.Errorf("%q is shown as %q, want %q", tt.text, got, tt.want)
		}
	}
}

// What a server says again of the handshake is not said a third time.
func TestHeadersAreNotSaidAgain(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, strings.Repeat("x", 150)+r.Header.Get("Authorization")+r.Header.Get("X-Key")+"\x1b[31m", http.StatusForbidden)
	}))
	defer server.Close()
	echo, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = echo.Close() }()
	go func() {
		for {
			conn, err := echo.Accept()
			if err != nil {
				return
			}
			buf := make([]byte, 4096)
			n, _ := conn.Read(buf)
			_, _ = conn.Write(buf[:n])
			_ = conn.Close()
		}
	}()
	for _, url := range []string{strings.Replace(server.URL, "http", "ws", 1), "ws://" + echo.Addr().String() + "/?k=TOPSECRET"} {
		r := Examine(t.Context(), Options{URL: url, Header: http.Header{"Authorization": {"Bearer TOPSECRET" + strings.Repeat("y", 900)}, "X-Key": {"TOPSECRET"}}})
		var text strings.Builder
		r.Print(&text)
		if r.OK || strings.Contains(text.String(), "TOPSECRET") || strings.Contains(text.String(), "\x1b") {
			t.Errorf("%s", &text)
		}
	}
}

func TestOutlinesOfCommands(t *testing.T) {
	for line, want := range map[string]string{
		"voxedge serve":                         "voxedge serve",
		"mysqld --pass SECRET":                  "mysqld",
		"psql postgres://u:SECRET@h/db":         "psql postgres://***@h/db",
		"redis-cli -aSECRET monitor":            "redis-cli",
		"python3 -m http.server":                "python3 -m",
		"nginx: master process /usr/sbin/nginx": "nginx: master",
		"":                                      "",
	} {
		if got := outline(line); got != want {
			t.Errorf("%q is %q, want %q", line, got, want)
		}
	}
}
