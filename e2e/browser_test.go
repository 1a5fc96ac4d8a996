package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

const page = `<!doctype html><title>voxedge</title><script>
async function ticket() { return (await (await fetch('/ticket')).json()).ticket; }
async function speak(url, text, protocols) {
	const ws = new WebSocket(url, protocols);
	ws.binaryType = 'arraybuffer';
	const sequences = [], parts = [];
	return await new Promise((resolve, reject) => {
		ws.onclose = e => reject(new Error('closed ' + e.code));
		ws.onmessage = e => {
			if (e.data instanceof ArrayBuffer) {
				const view = new DataView(e.data);
				sequences.push(Number(view.getBigUint64(8, true)));
				parts.push(new Uint8Array(e.data, 16));
				return;
			}
			const m = JSON.parse(e.data);
			if (m.type === 'session_start') ws.send(JSON.stringify({type: 'text', text}));
			if (m.type === 'audio') {
				sequences.push(m.sequence);
				parts.push(Uint8Array.from(atob(m.pcm), c => c.charCodeAt(0)));
			}
			if (m.type === 'error') reject(new Error(m.code + ': ' + m.message));
			if (m.type === 'utterance_end') {
				let samples = '';
				for (const p of parts) samples += String.fromCharCode(...p);
				resolve(JSON.stringify({sequences, samples: btoa(samples), reason: m.reason}));
				ws.onclose = null;
				ws.close();
			}
		};
	});
}
</script>`

// browser is a real Chromium.
type browser struct {
	t   *testing.T
	ctx context.Context
}

func startBrowser(t *testing.T) *browser {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(need(t, "chromium")), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true), chromedp.UserDataDir(t.TempDir()))
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	ctx, cancel = context.WithTimeout(ctx, patience)
	t.Cleanup(cancel)
	return &browser{t, ctx}
}

// run opens the site and returns what the script comes to there.
func (b *browser) run(site, script string) (string, error) {
	b.t.Helper()
	if _, err := chromedp.Run(b.ctx, chromedp.Navigate(site)); err != nil {
		b.t.Fatal(err)
	}
	return chromedp.Run(b.ctx, chromedp.Evaluate[string](script, chromedp.EvalAwaitPromise))
}

// hear opens the site and has it speak with a WebSocket whose URL is a script.
func (b *browser) hear(site, url, protocols string) error {
	b.t.Helper()
	text, _ := json.Marshal(paragraph)
	result, err := b.run(site, fmt.Sprintf("(async () => speak(%s, %s, %s))()", url, text, protocols))
	if err != nil {
		return err
	}
	var heard struct {
		Sequences []uint64
		Samples   []byte
		Reason    string
	}
	if err := json.Unmarshal([]byte(result), &heard); err != nil {
		b.t.Fatal(err)
	}
	for i, sequence := range heard.Sequences {
		if sequence != uint64(i+1) {
			b.t.Fatalf("sequence %d at place %d", sequence, i)
		}
	}
	if heard.Reason != "completed" {
		b.t.Fatalf("ended as %s", heard.Reason)
	}
	checkTone(b.t, heard.Samples, 440, paragraphRunes)
	return nil
}

// startSite serves the page, and gives out tickets as the page's own server.
func startSite(t *testing.T, ticket http.HandlerFunc) string {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte(page))
	})
	if ticket != nil {
		mux.HandleFunc("/ticket", ticket)
	}
	site := httptest.NewServer(mux)
	t.Cleanup(site.Close)
	return site.URL
}

func TestABrowserHearsTheWorkerBitForBit(t *testing.T) {
	b := startBrowser(t)
	s := startSystem(t)
	s.worker("w1")
	edge, url := s.edge("ALLOWED_ORIGINS=*")
	edge.await(1, "worker is healthy")
	site := startSite(t, nil)
	for _, protocols := range []string{"[]", `["voxedge.binary.v1"]`} {
		if err := b.hear(site, fmt.Sprintf("%q", url+"/v1/stream?pacing=none"), protocols); err != nil {
			t.Fatal(err)
		}
	}
}

// A page has its own server ask for a ticket with the key, which the browser
// never sees, and gets in with it once.
func TestABrowserComesInWithATicket(t *testing.T) {
	b := startBrowser(t)
	var g *guarded
	var app string
	given := ""
	app = startSite(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := json.Marshal(map[string]string{"origin": app})
		request, err := http.NewRequestWithContext(r.Context(), http.MethodPost, g.http+"/v1/tickets", bytes.NewReader(body))
		if err != nil {
			t.Error(err)
			return
		}
		request.Header.Set("Authorization", "Bearer "+g.apiKey)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = response.Body.Close() }()
		data, _ := io.ReadAll(response.Body)
		var answer struct{ Ticket string }
		if err := json.Unmarshal(data, &answer); err != nil || response.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", response.Status, data)
		}
		given = answer.Ticket
		_, _ = w.Write(data)
	})
	other, stranger := startSite(t, nil), startSite(t, nil)
	g = startGuarded(t, "ALLOWED_ORIGINS="+app+","+other)
	stream := g.url + "/v1/stream?pacing=none"
	refused := func(what string, err error, code string) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), code) {
			t.Errorf("%s: %v, want %s", what, err, code)
		}
	}

	if err := b.hear(app, fmt.Sprintf("%q + await ticket()", stream+"&ticket="), "[]"); err != nil {
		t.Fatal(err)
	}
	refused("the same ticket again", b.hear(app, fmt.Sprintf("%q", stream+"&ticket="+given), "[]"), "UNAUTHORIZED")
	refused("no ticket", b.hear(app, fmt.Sprintf("%q", stream), "[]"), "UNAUTHORIZED")
	if _, err := b.run(app, "ticket()"); err != nil {
		t.Fatal(err)
	}
	refused("another page's ticket", b.hear(other, fmt.Sprintf("%q", stream+"&ticket="+given), "[]"), "UNAUTHORIZED")
	refused("a page that may not", b.hear(stranger, fmt.Sprintf("%q", stream), "[]"), "FORBIDDEN_ORIGIN")
}
