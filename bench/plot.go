package bench

import (
	"io"

	"github.com/wcharczuk/go-chart/v2"
)

// PlotCost draws the cost of a frame against the number of sessions.
func (r *Report) PlotCost(w io.Writer) error {
	byName := map[string]*chart.ContinuousSeries{}
	var order []*chart.ContinuousSeries
	add := func(name string, sessions int, cost float64) {
		s := byName[name]
		if s == nil {
			s = &chart.ContinuousSeries{Name: name}
			byName[name], order = s, append(order, s)
		}
		s.XValues, s.YValues = append(s.XValues, float64(sessions)), append(s.YValues, cost)
	}
	for _, m := range r.Results {
		if m.Edge.Pace == 0 || m.Edge.Latency != nil {
			continue
		}
		add(m.Scenario, m.Sessions, m.Edge.CPU)
		if m.Scenario == pacedScenarios[0].name {
			add("bare relay", m.Sessions, m.Relay.CPU)
		}
	}
	return draw(w, "CPU a frame", "sessions", "µs", order)
}

// PlotLatency draws how long frames take from the worker's making to arrival.
func (r *Report) PlotLatency(w io.Writer) error {
	var order []*chart.ContinuousSeries
	for _, m := range r.Results {
		if m.Edge.Latency != nil {
			order = append(order, &chart.ContinuousSeries{Name: "edge", XValues: Percentiles, YValues: m.Edge.Latency},
				&chart.ContinuousSeries{Name: "bare relay", XValues: Percentiles, YValues: m.Relay.Latency})
		}
	}
	return draw(w, "From a frame's making to its arrival", "percentile", "ms", order)
}

func draw(w io.Writer, title, x, y string, series []*chart.ContinuousSeries) error {
	c := chart.Chart{Title: title, Width: 800, Height: 400, XAxis: chart.XAxis{Name: x}, YAxis: chart.YAxis{Name: y, Range: &chart.ContinuousRange{}},
		Background: chart.Style{Padding: chart.Box{Top: 50, Left: 20, Right: 20, Bottom: 20}}}
	top := 0.0
	for _, s := range series {
		for _, v := range s.YValues {
			top = max(top, v)
		}
		c.Series = append(c.Series, *s)
	}
	c.YAxis.Range = &chart.ContinuousRange{Min: 0, Max: top * 1.1}
	c.Elements = []chart.Renderable{chart.Legend(&c)}
	return c.Render(chart.SVG, w)
}
