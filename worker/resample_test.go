package worker

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"testing"
)

func encode(samples []float64) []byte {
	var b []byte
	for _, s := range samples {
		b = binary.LittleEndian.AppendUint16(b, uint16(int16(math.Round(s))))
	}
	return b
}

func decode(t *testing.T, pcm []byte) []float64 {
	t.Helper()
	if len(pcm)%2 != 0 {
		t.Fatalf("%d bytes are not whole samples", len(pcm))
	}
	samples := make([]float64, len(pcm)/2)
	for i := range samples {
		samples[i] = float64(int16(binary.LittleEndian.Uint16(pcm[2*i:])))
	}
	return samples
}

// sines is a second of the sum of sines at the rate.
func sines(rate int, amplitude float64, hz ...float64) []float64 {
	samples := make([]float64, rate)
	for i := range samples {
		for _, f := range hz {
			samples[i] += amplitude * math.Sin(2*math.Pi*f*float64(i)/float64(rate))
		}
	}
	return samples
}

// resample passes pcm through in writes of so many bytes.
func resample(t *testing.T, rate int, pcm []byte, write int) []byte {
	t.Helper()
	var out bytes.Buffer
	r := newResampler(rate, &out)
	for len(pcm) > 0 {
		n := min(write, len(pcm))
		if got, err := r.Write(pcm[:n]); err != nil || got != n {
			t.Fatalf("Write of %d bytes returned %d, %v", n, got, err)
		}
		pcm = pcm[n:]
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// inner leaves out the ends, where the filter reaches over the sound's edge.
func inner(samples []float64) []float64 { return samples[960 : len(samples)-960] }

// fitSine finds the sine of the frequency that is nearest to the samples, by
// least squares, and returns its amplitude and the power of what is left.
func fitSine(samples []float64, hz float64) (amplitude, residual float64) {
	var cc, ss, cs, xc, xs float64
	wave := func(i int) (cos, sin float64) {
		angle := 2 * math.Pi * hz * float64(i) / sampleRate
		return math.Cos(angle), math.Sin(angle)
	}
	for i, x := range samples {
		c, s := wave(i)
		cc, ss, cs = cc+c*c, ss+s*s, cs+c*s
		xc, xs = xc+x*c, xs+x*s
	}
	det := cc*ss - cs*cs
	a, b := (xc*ss-xs*cs)/det, (xs*cc-xc*cs)/det
	for i, x := range samples {
		c, s := wave(i)
		residual += (x - a*c - b*s) * (x - a*c - b*s)
	}
	return math.Hypot(a, b), residual / float64(len(samples))
}

// loudness is the root mean square of the samples.
func loudness(samples []float64) float64 {
	var sum float64
	for _, x := range samples {
		sum += x * x
	}
	return math.Sqrt(sum / float64(max(1, len(samples))))
}

func decibels(signal, noise float64) float64 { return 10 * math.Log10(signal/noise) }

func TestResamplerKeepsASine(t *testing.T) {
	const amplitude = 12_000
	for _, rate := range []int{8000, 16000, 22050, 24000, 44100, 48000, 96000} {
		for _, hz := range []float64{110, 1000, 3000} {
			out := inner(decode(t, resample(t, rate, encode(sines(rate, amplitude, hz)), 4096)))
			got, residual := fitSine(out, hz)
			if snr := decibels(got*got/2, residual); snr < 60 {
				t.Errorf("%d Hz: a sine of %g Hz comes out with a signal-to-noise ratio of %.1f dB, want 60", rate, hz, snr)
			}
			if math.Abs(got-amplitude) > amplitude/100 {
				t.Errorf("%d Hz: a sine of %g Hz comes out at %.0f, want %d", rate, hz, got, amplitude)
			}
		}
	}
}

func TestResamplerKeepsTheLength(t *testing.T) {
	for _, rate := range []int{8000, 16000, 22050, 44100, 48000, 96000} {
		for _, samples := range []int{0, 1, rate / 50, rate, 3*rate + 7} {
			out := decode(t, resample(t, rate, make([]byte, 2*samples), 1000))
			seconds := float64(len(out))/sampleRate - float64(samples)/float64(rate)
			if seconds < 0 || seconds > 0.005 {
				t.Errorf("%d samples at %d Hz come out %.2f ms longer, want 0 to 5", samples, rate, seconds*1000)
			}
		}
	}
}

// The filter holds the last samples until it is closed: the end of a word.
func TestResamplerKeepsTheEnd(t *testing.T) {
	for _, rate := range []int{16000, 22050, 48000} {
		quiet := make([]float64, rate/10)
		click := append(quiet[:len(quiet)-1:len(quiet)-1], 20_000)
		in := loudness(click) * math.Sqrt(float64(len(click))/float64(rate))
		out := decode(t, resample(t, rate, encode(click), 4096))
		// The filter takes away the tenth of the click's band that lies highest.
		if got := loudness(out) * math.Sqrt(float64(len(out))/sampleRate); got < 0.9*in {
			t.Errorf("%d Hz: a click at the end keeps %.0f%% of its strength, want 90", rate, 100*got/in)
		}
	}
}

// A pipe gives what it has, half samples too.
func TestResamplerDoesNotMindHowItIsWritten(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	pcm := make([]byte, 2*22050/4)
	for i := range pcm {
		pcm[i] = byte(random.Uint32())
	}
	whole := resample(t, 22050, pcm, len(pcm))
	for _, write := range []int{1, 2, 3, 7, 1023, 4095} {
		if !bytes.Equal(resample(t, 22050, pcm, write), whole) {
			t.Errorf("writes of %d bytes make another sound than one write", write)
		}
	}
}

// What a resampler adds shows above the input's half band: the images of what
// is below it.
func TestResamplerLeavesNoImages(t *testing.T) {
	const rate = 22050
	hz := []float64{300, 1200, 3400, 5000, 7100, 8200, 9300}
	out := inner(decode(t, resample(t, rate, encode(sines(rate, 3000, hz...)), 4096)))
	below, above := spectrum(out[:8192], rate/2)
	if down := decibels(below, above); down < 60 {
		t.Errorf("what is above %d Hz lies %.1f dB below the sound, want 60", rate/2, down)
	}
}

// spectrum returns the energy below and above the frequency. The Blackman
// window keeps each sine from leaking over the border.
func spectrum(samples []float64, hz float64) (below, above float64) {
	n := len(samples)
	windowed := make([]float64, n)
	for i, x := range samples {
		phase := 2 * math.Pi * float64(i) / float64(n-1)
		windowed[i] = x * (0.42 - 0.5*math.Cos(phase) + 0.08*math.Cos(2*phase))
	}
	for bin := range n / 2 {
		// Goertzel's recurrence: one bin of the Fourier transform.
		coefficient := 2 * math.Cos(2*math.Pi*float64(bin)/float64(n))
		var s1, s2 float64
		for _, x := range windowed {
			s1, s2 = x+coefficient*s1-s2, s1
		}
		energy := s1*s1 + s2*s2 - coefficient*s1*s2
		if float64(bin)*sampleRate/float64(n) < hz {
			below += energy
		} else {
			above += energy
		}
	}
	return below, above
}

func TestResamplerClipsRatherThanWraps(t *testing.T) {
	square := make([]float64, 2205)
	for i := range square {
		if square[i] = math.MaxInt16; i/50%2 == 1 {
			square[i] = math.MinInt16
		}
	}
	out := decode(t, resample(t, 22050, encode(square), 4096))
	for i := 1; i < len(out); i++ {
		// The filter needs several samples from one end to the other; a wrapped one none.
		if math.Abs(out[i]-out[i-1]) > 60_000 {
			t.Fatalf("sample %d jumps from %.0f to %.0f", i, out[i-1], out[i])
		}
	}
}

func TestResamplerReturnsTheWritersError(t *testing.T) {
	r, w := io.Pipe()
	if err := r.CloseWithError(errStopped); err != nil {
		t.Fatal(err)
	}
	if _, err := newResampler(22050, w).Write(make([]byte, 1<<16)); !errors.Is(err, errStopped) {
		t.Errorf("Write returned %v, want the writer's error", err)
	}
}
