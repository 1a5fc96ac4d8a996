package worker

import (
	"encoding/binary"
	"io"
	"math"
)

// resampler turns mono s16le at one rate into mono s16le at 48 kHz on its way
// to out. It is a polyphase filter: a low pass, designed at the rate that both
// divide, of which each output sample needs one phase.
type resampler struct {
	out    io.Writer
	up     int         // output samples for
	down   int         // input samples
	phases [][]float64 // up × taps, each phase oldest sample last
	past   []float64   // the newest taps input samples, oldest first
	phase  int
	odd    []byte // half a sample
	buf    []byte
}

const (
	taps     = 48  // input samples an output sample is made of
	rolloff  = 0.9 // of the half band that is kept
	kaiser   = 9.0 // window: side lobes at -90 dB
	maxWrite = 4 * frameBytes
)

func newResampler(rate int, out io.Writer) *resampler {
	g := gcd(rate, sampleRate)
	r := &resampler{out: out, up: sampleRate / g, down: rate / g, past: make([]float64, taps)}
	cutoff := rolloff * min(1, float64(sampleRate)/float64(rate)) // of the input's half band
	r.phases = make([][]float64, r.up)
	for p := range r.phases {
		r.phases[p] = make([]float64, taps)
		var sum float64
		for k := range taps {
			// How far the output sample lies after past[k], in input samples, when the
			// middle of the filter is at the newest sample but half the taps.
			x := float64(taps/2-1-k) + float64(p)/float64(r.up)
			r.phases[p][k] = sinc(cutoff*x) * kaiserWindow(x/(taps/2))
			sum += r.phases[p][k]
		}
		for k := range taps { // the same loudness in every phase
			r.phases[p][k] /= sum
		}
	}
	return r
}

// Write takes s16le samples at the input rate.
func (r *resampler) Write(p []byte) (int, error) {
	n := len(p)
	if len(r.odd) == 1 && n > 0 {
		if err := r.sample(int16(uint16(r.odd[0]) | uint16(p[0])<<8)); err != nil {
			return 0, err
		}
		r.odd, p = r.odd[:0], p[1:]
	}
	for ; len(p) >= 2; p = p[2:] {
		if err := r.sample(int16(binary.LittleEndian.Uint16(p))); err != nil {
			return 0, err
		}
	}
	r.odd = append(r.odd, p...)
	return n, r.flush()
}

// Close writes what the filter still holds.
func (r *resampler) Close() error {
	for range taps / 2 {
		if err := r.sample(0); err != nil {
			return err
		}
	}
	return r.flush()
}

func (r *resampler) sample(s int16) error {
	copy(r.past, r.past[1:])
	r.past[taps-1] = float64(s)
	for ; r.phase < r.up; r.phase += r.down {
		var sum float64
		for k, h := range r.phases[r.phase] {
			sum += h * r.past[k]
		}
		v := math.Round(min(max(sum, math.MinInt16), math.MaxInt16))
		r.buf = binary.LittleEndian.AppendUint16(r.buf, uint16(int16(v)))
	}
	r.phase -= r.up
	if len(r.buf) >= maxWrite {
		return r.flush()
	}
	return nil
}

func (r *resampler) flush() error {
	_, err := r.out.Write(r.buf)
	r.buf = r.buf[:0]
	return err
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

func sinc(x float64) float64 {
	if x == 0 {
		return 1
	}
	return math.Sin(math.Pi*x) / (math.Pi * x)
}

// kaiserWindow is the Kaiser window over -1 to 1.
func kaiserWindow(x float64) float64 {
	if x < -1 || x > 1 {
		return 0
	}
	return bessel(kaiser*math.Sqrt(1-x*x)) / bessel(kaiser)
}

// bessel is the modified Bessel function of the first kind and order 0.
func bessel(x float64) float64 {
	sum, term := 1.0, 1.0
	for k := 1.0; term > sum*1e-12; k++ {
		term *= (x / (2 * k)) * (x / (2 * k))
		sum += term
	}
	return sum
}
