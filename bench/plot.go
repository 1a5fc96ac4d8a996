package bench

import (
	"io"
	"math"
	"slices"
	"strconv"

	"github.com/wcharczuk/go-chart/v2"
)

// PlotCost draws the cost of a frame against the number of sessions. Both axes are
// logarithmic: a frame of one session costs many times what it costs among hundreds.
func (r *Report) PlotCost(w io.Writer) error {
	p := plot{title: "CPU a frame", x: axis{name: "sessions", at: math.Log10}, y: axis{name: "µs", at: math.Log10}}
	least, most := math.Inf(1), 0.0
	for _, m := range r.Results {
		if m.Edge.Pace == 0 || m.Edge.Latency != nil {
			continue
		}
		p.add(m.Scenario, float64(m.Sessions), m.Edge.CPU)
		if m.Scenario == pacedScenarios[0].name {
			p.add("bare relay", float64(m.Sessions), m.Relay.CPU)
			p.x.mark(float64(m.Sessions))
		}
		least, most = min(least, m.Edge.CPU), max(most, m.Edge.CPU)
	}
	for _, cost := range []float64{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000} {
		if cost > least/3 && cost < 3*most { // the next below and above are among them
			p.y.mark(cost)
		}
	}
	return p.draw(w)
}

// PlotLatency draws how long frames take from the worker's making to arrival. The axis of
// percentiles gives each further nine the same room.
func (r *Report) PlotLatency(w io.Writer) error {
	p := plot{
		title: "From a frame's making to its arrival, " + strconv.Itoa(latencySessions) + " sessions, " + latencyScenario.name,
		x:     axis{name: "percentile", at: func(percentile float64) float64 { return -math.Log10(1 - percentile/100) }},
		y:     axis{name: "ms", at: func(ms float64) float64 { return ms }},
	}
	for _, percentile := range []float64{0, 50, 90, 95, 99, 99.9} {
		p.x.mark(percentile)
	}
	top := 0.0
	for _, m := range r.Results {
		if m.Edge.Latency == nil {
			continue
		}
		for i, percentile := range Percentiles {
			p.add("edge", percentile, m.Edge.Latency[i])
			p.add("bare relay", percentile, m.Relay.Latency[i])
			top = max(top, m.Edge.Latency[i], m.Relay.Latency[i])
		}
	}
	for ms := 0.0; ms <= top+0.2; ms = math.Round(10*ms+max(1, top)) / 10 { // ten or so, of a tenth or more
		p.y.mark(ms)
	}
	return p.draw(w)
}

// plot is of lines through points of two axes.
type plot struct {
	title string
	x, y  axis
	lines []*chart.ContinuousSeries
}

// axis is where values lie, and which of them are named.
type axis struct {
	name  string
	at    func(float64) float64
	ticks []chart.Tick
}

func (a *axis) mark(v float64) {
	a.ticks = append(a.ticks, chart.Tick{Value: a.at(v), Label: strconv.FormatFloat(v, 'f', -1, 64)})
}

// ends are the first tick and the last.
func (a *axis) ends() chart.Range {
	byValue := func(a, b chart.Tick) int { return int(math.Copysign(1, a.Value-b.Value)) }
	return &chart.ContinuousRange{Min: slices.MinFunc(a.ticks, byValue).Value, Max: slices.MaxFunc(a.ticks, byValue).Value}
}

// add puts a point at the end of the line of this name.
func (p *plot) add(name string, x, y float64) {
	i := slices.IndexFunc(p.lines, func(l *chart.ContinuousSeries) bool { return l.Name == name })
	if i < 0 {
		i = len(p.lines)
		p.lines = append(p.lines, &chart.ContinuousSeries{Name: name, Style: chart.Style{StrokeWidth: 2, DotWidth: 3}})
	}
	line := p.lines[i]
	line.XValues, line.YValues = append(line.XValues, p.x.at(x)), append(line.YValues, p.y.at(y))
}

func (p *plot) draw(w io.Writer) error {
	grid := chart.Style{StrokeWidth: 1, StrokeColor: chart.ColorLightGray}
	c := chart.Chart{
		Title: p.title, TitleStyle: chart.Style{FontSize: 12}, Width: 1000, Height: 450,
		XAxis:      chart.XAxis{Name: p.x.name, Ticks: p.x.ticks, Range: p.x.ends(), GridMajorStyle: grid},
		YAxis:      chart.YAxis{Name: p.y.name, Ticks: p.y.ticks, Range: p.y.ends(), GridMajorStyle: grid},
		Background: chart.Style{Padding: chart.Box{Top: 70, Left: 20, Right: 20, Bottom: 20}},
	}
	for _, line := range p.lines {
		c.Series = append(c.Series, *line)
	}
	c.Elements = []chart.Renderable{chart.LegendThin(&c)}
	return c.Render(chart.SVG, w)
}
