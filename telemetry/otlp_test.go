package telemetry

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"
)

// An answer after which OTLP has a client try again costs no span, over HTTP
// too; one for some spans costs those alone.
func TestOverHTTPSpansAreTriedAgain(t *testing.T) {
	for _, status := range []int{http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout, http.StatusOK} {
		var asked atomic.Int64
		collector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.Header().Set("Content-Type", "application/x-protobuf")
			switch {
			case asked.Add(1) > 1:
			case status == http.StatusOK:
				answer, err := proto.Marshal(&coltracepb.ExportTraceServiceResponse{PartialSuccess: &coltracepb.ExportTracePartialSuccess{RejectedSpans: 5, ErrorMessage: "(no)"}})
				if err != nil {
					t.Error(err)
				}
				_, _ = w.Write(answer)
			default:
				w.WriteHeader(status)
			}
		}))
		t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)
		t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
		tracer, err := NewTracer("test", 1<<20, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		s := tracer.Session(SessionStart{ID: "s"})
		s.Opened()
		u, _ := speak(s, 10)
		u.End(UtteranceEnd{})
		shutdown(t, tracer)
		collector.Close()
		http.DefaultClient.CloseIdleConnections()
		lost := int64(0)
		if status == http.StatusOK {
			lost = 5
		}
		if tracer.Exported() != 12-lost || tracer.Lost() != lost {
			t.Errorf("%d: %d spans were taken and %d lost", status, tracer.Exported(), tracer.Lost())
		}
	}
}

func TestUtterancesDecideForThemselves(t *testing.T) {
	const session, own = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-", "00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-"
	for _, flags := range [][2]string{{"00", "01"}, {"01", "00"}} {
		tracer, _, _ := startTracer(t, 1<<20)
		s := tracer.Session(SessionStart{ID: "s", Traceparent: session + flags[0]})
		s.Opened()
		u := s.Utterance(UtteranceStart{Session: "s", Traceparent: own + flags[1]})
		u.End(UtteranceEnd{})
		shutdown(t, tracer)
		if traced := u.TraceID() != ""; traced != (flags[1] == "01") {
			t.Errorf("session %s, text %s: traced is %v", flags[0], flags[1], traced)
		}
	}
}
