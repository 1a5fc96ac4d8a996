package session

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestParseMessage(t *testing.T) {
	long := strings.Repeat("é", MaxTextRunes)
	for _, test := range []struct {
		in   string
		want any
	}{
		{`{"type":"text","text":"Hello"}`, Text{Text: "Hello", Runes: 5, Final: true}},
		{`{"type":"text","text":"Hello","is_final":true}`, Text{Text: "Hello", Runes: 5, Final: true}},
		{`{"type":"text","text":"Hel","is_final":false}`, Text{Text: "Hel", Runes: 3, Final: false}},
		{`{"type":"text","text":"","is_final":true}`, Text{Text: "", Runes: 0, Final: true}},
		{`{"type":"text","text":"","is_final":false}`, Text{Text: "", Runes: 0, Final: false}},
		{`{"type":"text","text":"a","TEXT":"b","Is_Final":false,"frames":"of no concern"}`, Text{Text: "a", Runes: 1, Final: true}},
		{`{"type":"text","text":"` + long + `"}`, Text{Text: long, Runes: MaxTextRunes, Final: true}},
		{`{"type":"text","text":"a","voice":{"unknown":[1]},"x":null}`, Text{Text: "a", Runes: 1, Final: true}},
		{` {"type" : "control", "command":"PAUSE"} `, Control{Pause}},
		{`{"type":"control","command":"RESUME"}`, Control{Resume}},
		{`{"type":"control","command":"STOP"}`, Control{Stop}},
		{`{"type":"ping"}`, Ping{}},
		{`{"type":"ping","id":7}`, Ping{json.RawMessage("7")}},
		{`{"type":"ping","id":"a"}`, Ping{json.RawMessage(`"a"`)}},
		{`{"type":"receipt","frames":[[1,2,3],[4,5,6]]}`, Receipt{[]HeardFrame{{1, time.UnixMilli(2), time.UnixMilli(3)}, {4, time.UnixMilli(5), time.UnixMilli(6)}}}},
		{`{"type":"receipt","frames":[[1,2.5,0]]}`, Receipt{[]HeardFrame{{1, time.Unix(0, 2_500_000), time.Unix(0, 2_500_000)}}}},
		{`{"type":"text","text":"a","traceparent":"00-1"}`, Text{Text: "a", Runes: 1, Final: true, Traceparent: "00-1"}},
	} {
		got, problem := ParseMessage([]byte(test.in))
		if problem != nil {
			t.Errorf("%.80s: %v", test.in, problem)
		} else if !reflect.DeepEqual(got, test.want) {
			t.Errorf("%.80s: %#v", test.in, got)
		}
	}
}

func TestParseMessageSaysWhatIsWrong(t *testing.T) {
	for in, part := range map[string]string{
		``:                           "not what was expected",
		`{`:                          "not what was expected",
		`[]`:                         "not what was expected",
		`"text"`:                     "not what was expected",
		`null`:                       `no "type"`,
		`{}`:                         `no "type"`,
		`{"type":5}`:                 "not what was expected",
		`{"type":"sing"}`:            `"sing" is unknown`,
		`{"type":"text"}`:            `no "text"`,
		`{"type":"text","Text":"a"}`: `no "text"`,
		`{"Type":"text","text":"a"}`: `no "type"`,
		`{"type":"text","text":"a","is_final":1}`:                                       `"is_final" is a JSON number`,
		`{"type":"text","text":null}`:                                                   `no "text"`,
		`{"type":"text","text":5}`:                                                      "not what was expected",
		`{"type":"text","text":"a"} trailing`:                                           "not what was expected",
		`{"type":"control"}`:                                                            "is unknown",
		`{"type":"control","command":"pause"}`:                                          `"pause" is unknown`,
		`{"type":"control","command":"RELOAD"}`:                                         `"RELOAD" is unknown`,
		`{"type":"receipt","frames":[[1]]}`:                                             "1 numbers",
		`{"type":"receipt","frames":[[1,2,3,4]]}`:                                       "4 numbers",
		`{"type":"receipt","frames":[[1,null,null]]}`:                                   "has a frame",
		`{"type":"receipt","frames":[[1,3,2]]}`:                                         "has a frame",
		`{"type":"receipt","frames":[]}`:                                                "no frames",
		`{"type":"receipt"}`:                                                            "no frames",
		`{"type":"receipt","frames":[["a"]]}`:                                           "not what was expected",
		`{"type":"text","text":"` + strings.Repeat("é", MaxTextRunes+1) + `"}`:          "10001 characters",
		`{"type":"ping","id":"` + strings.Repeat("x", maxPingID) + `"}`:                 "long",
		`{"type":"receipt","frames":[` + strings.Repeat("[1,2,3],", 1000) + `[1,2,3]]}`: "1001 frames",
	} {
		got, problem := ParseMessage([]byte(in))
		if problem == nil {
			t.Errorf("%.80s: accepted as %#v", in, got)
			continue
		}
		if problem.Code != InvalidMessage || !strings.Contains(problem.Cause, part) || problem.Resolution == "" {
			t.Errorf("%.80s: %s %q %q, want a cause with %q", in, problem.Code, problem.Cause, problem.Resolution, part)
		}
	}
}

func FuzzParseMessage(f *testing.F) {
	for _, seed := range []string{
		`{"type":"text","text":"Hello","is_final":false}`, `{"type":"control","command":"STOP"}`,
		`{"type":"ping","id":{"a":[1,2]}}`, `{"type":"receipt","frames":[[1,2,3]]}`, `{"type":"text","text":"\ud800"}`,
		`{"TYPE":"text","Text":"x"}`, "\xff", `[[[[[[`, `{"type":"ping","id":1e999}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, problem := ParseMessage(data)
		if (got == nil) == (problem == nil) {
			t.Fatalf("%q gave %v and %v", data, got, problem)
		}
		switch m := got.(type) {
		case Text:
			if !utf8.ValidString(m.Text) || m.Runes != utf8.RuneCountInString(m.Text) || m.Runes > MaxTextRunes {
				t.Fatalf("%q passed as %#v", data, m)
			}
		case Ping:
			// What is given back must be JSON again.
			if len(m.ID) > 0 && !json.Valid(encode(pongMessage{"pong", m.ID, 1})) {
				t.Fatalf("%q makes a bad pong", data)
			}
		case Control, Receipt:
		case nil:
			if problem.Code != InvalidMessage || !json.Valid(EncodeError(problem)) {
				t.Fatalf("%q gave %v", data, problem)
			}
		}
	})
}
