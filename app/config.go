package app

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"
	"github.com/redis/go-redis/v9"

	"github.com/voxedge/voxedge/clients"
	"github.com/voxedge/voxedge/middleware"
	"github.com/voxedge/voxedge/session"
	"github.com/voxedge/voxedge/telemetry"
)

// Config is the environment of every subcommand: there is no other
// configuration. The doc tag is the variable's line in .env.example.
type Config struct {
	Host       string `env:"HOST" envDefault:"0.0.0.0" doc:"Address that WebSockets are accepted on"`
	Port       int    `env:"PORT" envDefault:"8080" doc:"Port of the WebSockets; 0 takes a free one"`
	HealthHost string `env:"HEALTH_HOST" envDefault:"0.0.0.0" doc:"Address of the health port"`
	HealthPort int    `env:"HEALTH_PORT" envDefault:"8081" doc:"Port of health, readiness, liveness and metrics, never to be public"`
	LogLevel   string `env:"LOG_LEVEL" envDefault:"info" doc:"debug, info, warn or error"`

	RedisURL string `env:"REDIS_URL" envDefault:"redis://localhost:6379" doc:"Where workers announce themselves; rediss:// for TLS; off: no Redis (needs WORKER_ADDR)"`
	// Looks for workers go over every key of their Redis.
	SessionRedisURL string `env:"SESSION_REDIS_URL" doc:"Where lost sessions, tickets and limits are kept, for fleets of many sessions; empty: at REDIS_URL"`

	WorkerAddr              string           `env:"WORKER_ADDR" doc:"Workers at fixed addresses (grpc://host:port, several with commas); empty: look them up in Redis"`
	RoutingStrategy         clients.Strategy `env:"ROUTING_STRATEGY" envDefault:"least_loaded" doc:"How a worker is chosen: least_loaded, least_latency, round_robin or random"`
	WorkerStartTimeout      time.Duration    `env:"WORKER_START_TIMEOUT" envDefault:"5s" doc:"How long a worker may take to open a session"`
	WorkerFirstFrameTimeout time.Duration    `env:"WORKER_FIRST_FRAME_TIMEOUT" envDefault:"10s" doc:"How long a worker may take from the whole text to its first frame"`
	WorkerStallTimeout      time.Duration    `env:"WORKER_STALL_TIMEOUT" envDefault:"3s" doc:"How long a worker may take from frame to frame; one that fails its health checks has a second"`
	WorkerRefreshInterval   time.Duration    `env:"WORKER_REFRESH_INTERVAL" envDefault:"5s" doc:"Time between looks for workers in Redis"`

	MaxWorkers int `env:"MAX_WORKERS" envDefault:"200" doc:"Workers that connections are kept to; of more each edge takes a share of its own, of each language and model some"`

	MaxConnections      int           `env:"MAX_CONNECTIONS" envDefault:"100" doc:"Sessions at once; more are refused with AT_CAPACITY"`
	FrameQueueSize      int           `env:"FRAME_QUEUE_SIZE" envDefault:"50" doc:"Frames of 20 ms between worker and client, a session"`
	PacingLead          time.Duration `env:"PACING_LEAD" envDefault:"200ms" doc:"How far ahead of playback a client is kept, 40ms or more"`
	PacingInterval      time.Duration `env:"PACING_INTERVAL" envDefault:"20ms" doc:"How often frames leave: at 40ms two at once, at 60ms three, for less CPU a frame; more, up to five or half of PACING_LEAD, while the processors cannot keep up; never more than PACING_LEAD ahead"`
	IOUring             bool          `env:"IO_URING" envDefault:"true" doc:"Frames for many clients leave with one system call, where Linux lets the process use io_uring; false: a call each"`
	SlowClientTimeout   time.Duration `env:"SLOW_CLIENT_TIMEOUT" envDefault:"10s" doc:"How long a client may take nothing while frames wait"`
	IdleTimeout         time.Duration `env:"IDLE_TIMEOUT" envDefault:"5m" doc:"How long a session may be silent on both sides; 0: no limit"`
	MaxSessionDuration  time.Duration `env:"MAX_SESSION_DURATION" envDefault:"1h" doc:"How long a session may last; 0: no limit"`
	MaxMessages         int           `env:"MAX_MESSAGES_PER_SESSION" envDefault:"0" doc:"Messages a client may send in a session; 0: no limit"`
	MaxMessageBytes     int           `env:"MAX_MESSAGE_BYTES" envDefault:"262144" doc:"Size of one client message"`
	MessageRate         int           `env:"MAX_MESSAGES_PER_SECOND" envDefault:"200" doc:"Client messages a second that a session reads; more wait in the socket; 0: no limit"`
	MaxQueuedUtterances int           `env:"MAX_QUEUED_UTTERANCES" envDefault:"32" doc:"Utterances that may wait in a session"`
	MaxUtteranceChars   int           `env:"MAX_UTTERANCE_CHARS" envDefault:"100000" doc:"Characters that a session has to speak at once, in all its utterances and their parts"`
	PingInterval        time.Duration `env:"PING_INTERVAL" envDefault:"20s" doc:"Time between WebSocket pings; a client that answers none for two is gone; 0: none"`
	ResumeWindow        time.Duration `env:"RESUME_WINDOW" envDefault:"60s" doc:"How long a session whose connection was lost can be resumed"`
	HandshakeTimeout    time.Duration `env:"HANDSHAKE_TIMEOUT" envDefault:"5s" doc:"How long a client may take over its request"`
	ShutdownTimeout     time.Duration `env:"SHUTDOWN_TIMEOUT" envDefault:"10s" doc:"How long running utterances may take to end on SIGTERM; less than the platform's kill timeout"`

	APIKeys     string        `env:"API_KEYS" doc:"Keys that let clients in, by their hashes: name:hash, several with commas ('voxedge newkey NAME' makes one)"`
	JWTSecret   string        `env:"JWT_SECRET" doc:"Secret of HS256 tokens that let clients in; at least 32 characters"`
	JWKSURL     string        `env:"JWT_JWKS_URL" doc:"Where the public keys of RS, PS, ES or EdDSA tokens are"`
	JWTAudience string        `env:"JWT_AUDIENCE" doc:"Audience that tokens must be for; empty: any"`
	JWTIssuer   string        `env:"JWT_ISSUER" doc:"Issuer that tokens must be of; empty: any"`
	TicketTTL   time.Duration `env:"TICKET_TTL" envDefault:"30s" doc:"How long a browser may take to use its ticket"`
	Origins     string        `env:"ALLOWED_ORIGINS" doc:"Pages that may connect besides those of the edge's own host: https://app.example.com, https://*.example.com, several with commas, or *"`
	Proxies     string        `env:"TRUSTED_PROXIES" doc:"Addresses and networks of proxies whose X-Forwarded-For is taken for the client's address, with commas"`

	KeyConnections     int `env:"KEY_MAX_CONNECTIONS" envDefault:"0" doc:"Connections at once of one key or token subject, over all edges; 0: no limit"`
	KeyConnects        int `env:"KEY_CONNECTS_PER_MINUTE" envDefault:"0" doc:"Connects of one key, and tickets it is given, each; 0: no limit"`
	KeyCharacters      int `env:"KEY_CHARACTERS_PER_MINUTE" envDefault:"0" doc:"Characters of one key; 0: no limit"`
	KeyAudio           int `env:"KEY_AUDIO_SECONDS_PER_DAY" envDefault:"0" doc:"Seconds of audio of one key; 0: no limit"`
	AddressConnections int `env:"ADDRESS_MAX_CONNECTIONS" envDefault:"0" doc:"Connections at once of one address (IPv6: /64), over all edges; 0: no limit"`
	AddressConnects    int `env:"ADDRESS_CONNECTS_PER_MINUTE" envDefault:"0" doc:"Connects of one address, and tickets it asks for, each; 0: no limit"`
	AddressCharacters  int `env:"ADDRESS_CHARACTERS_PER_MINUTE" envDefault:"0" doc:"Characters of one address; 0: no limit"`
	AddressAudio       int `env:"ADDRESS_AUDIO_SECONDS_PER_DAY" envDefault:"0" doc:"Seconds of audio of one address; 0: no limit"`

	MaxHandshakes int `env:"MAX_HANDSHAKES" envDefault:"256" doc:"Connections at once that have not come to a WebSocket; more wait for theirs"`

	TLSCertFile         string `env:"TLS_CERT_FILE" doc:"Certificate of the WebSockets' port (PEM), read again when it changes; empty: no TLS"`
	TLSKeyFile          string `env:"TLS_KEY_FILE" doc:"Its key (PEM)"`
	WorkerTLSCA         string `env:"WORKER_TLS_CA" doc:"Authority of workers' certificates (PEM); empty: no TLS to workers"`
	WorkerTLSCert       string `env:"WORKER_TLS_CERT" doc:"Certificate that is shown to workers (PEM); voxedge worker: that it shows"`
	WorkerTLSKey        string `env:"WORKER_TLS_KEY" doc:"Its key (PEM)"`
	WorkerTLSServerName string `env:"WORKER_TLS_SERVER_NAME" doc:"Name that workers' certificates are for; empty: that of their address"`

	KillTimeout time.Duration `env:"KILL_TIMEOUT" envDefault:"0" doc:"What the platform waits between SIGTERM and SIGKILL, so that validate can hold SHUTDOWN_TIMEOUT against it; 0: not known"`
	RunDir      string        `env:"RUN_DIR" doc:"Directory for the note that tells the next start how this one ended; empty: one of the user's own among temporary files"`

	TraceBufferBytes int `env:"TRACE_BUFFER_BYTES" envDefault:"33554432" doc:"Memory for spans that the OTLP endpoint has not taken yet; beyond it utterances go untraced"`

	WorkerHost        string `env:"WORKER_HOST" envDefault:"0.0.0.0" doc:"voxedge worker: address of its gRPC port"`
	WorkerPort        int    `env:"WORKER_PORT" envDefault:"50051" doc:"voxedge worker: its gRPC port; 0 takes a free one"`
	WorkerName        string `env:"WORKER_NAME" doc:"voxedge worker: its name in Redis; empty: host name and port"`
	WorkerAdvertise   string `env:"WORKER_ADVERTISE" doc:"voxedge worker: the address edges reach it at (host:port); empty: found out"`
	WorkerEngine      string `env:"WORKER_ENGINE" envDefault:"auto" doc:"voxedge worker: espeak, tone, stamp (frames that bear the time they were made), or auto (espeak where espeak-ng is installed)"`
	WorkerMaxSessions int    `env:"WORKER_MAX_SESSIONS" envDefault:"0" doc:"voxedge worker: sessions at once; 0: no limit"`

	tracing, metrics bool           // OTEL_* names a place for them
	level            *slog.LevelVar // of the log
}

// RedisOff is the REDIS_URL of an edge that goes without.
const RedisOff = "off"

// Problem is one thing wrong with the environment.
type Problem struct {
	Name       string // of the variable
	Cause      string
	Resolution string
}

func (p Problem) String() string { return fmt.Sprintf("%s: %s. %s.", p.Name, p.Cause, p.Resolution) }

// LoadConfig reads the environment. It returns all problems at once; the
// config is of use only when there are none.
func LoadConfig(environ map[string]string) (Config, []Problem) {
	cfg := Config{tracing: telemetry.TracingWanted(environ), metrics: telemetry.MetricsWanted(environ)}
	var problems []Problem
	for _, p := range telemetry.CheckEnviron(environ) {
		problems = append(problems, Problem(p))
	}
	err := env.ParseWithOptions(&cfg, env.Options{Environment: environ})
	if all, ok := errors.AsType[env.AggregateError](err); ok {
		for _, err := range all.Errors {
			problems = append(problems, parseProblem(err, environ))
		}
	} else if err != nil {
		problems = append(problems, Problem{"environment", err.Error(), "Correct it"})
	}
	failed := map[string]bool{}
	for _, p := range problems {
		failed[p.Name] = true
	}
	for _, p := range cfg.check() {
		if !failed[p.Name] { // a value that was not read says nothing more
			problems = append(problems, p)
		}
	}
	return cfg, problems
}

// parseProblem names the variable where the library names the field.
func parseProblem(err error, environ map[string]string) Problem {
	parse, ok := errors.AsType[env.ParseError](err)
	if !ok {
		return Problem{"environment", err.Error(), "Correct it"}
	}
	field, _ := reflect.TypeFor[Config]().FieldByName(parse.Name)
	name := field.Tag.Get("env")
	want := "a whole number, such as " + field.Tag.Get("envDefault")
	switch field.Type {
	case reflect.TypeFor[time.Duration]():
		want = "a time with its unit, such as " + field.Tag.Get("envDefault")
	case reflect.TypeFor[bool]():
		want = "true or false"
	}
	if strings.HasPrefix(environ[name], "tcp://") {
		return Problem{name, fmt.Sprintf("%.60q was set by Kubernetes or Docker for a service of that name", environ[name]),
			"Set enableServiceLinks: false in the pod, or set the variable yourself"}
	}
	return Problem{name, fmt.Sprintf("%.60q is not %s", environ[name], want), "Correct it, or unset it for the default"}
}

// check holds the values against what they must be.
func (c *Config) check() []Problem {
	var problems []Problem
	wrong := func(name, resolution, cause string, args ...any) {
		problems = append(problems, Problem{name, fmt.Sprintf(cause, args...), resolution})
	}
	for _, v := range c.variables() {
		switch value := v.value.(type) {
		case int:
			if low, high := bounds(v.name); value < low || value > high {
				wrong(v.name, fmt.Sprintf("Give %d to %d", low, high), "%d is out of range", value)
			}
		case time.Duration:
			if value < 0 || value == 0 && !zeroIsNoLimit[v.name] {
				wrong(v.name, "Give a time such as "+v.fallback, "%s is not a time that can pass", value)
			}
		}
	}
	if _, ok := telemetry.Levels[c.LogLevel]; !ok {
		wrong("LOG_LEVEL", "Use debug, info, warn or error", "%.40q is not a level", c.LogLevel)
	}
	if _, err := redis.ParseURL(c.RedisURL); err != nil && c.RedisURL != RedisOff {
		wrong("REDIS_URL", "Use redis://[user:password@]host:port[/database], or off", "it is not a Redis URL")
	}
	if _, err := redis.ParseURL(c.SessionRedisURL); err != nil && c.SessionRedisURL != "" {
		wrong("SESSION_REDIS_URL", "Use redis://[user:password@]host:port[/database], or nothing", "it is not a Redis URL")
	}
	if c.WorkerAddr != "" {
		if _, err := clients.StaticWorkers(c.WorkerAddr); err != nil {
			wrong("WORKER_ADDR", "Use grpc://host:port, several set apart by commas", "%v", err)
		}
	}
	if !slices.Contains(clients.Strategies, c.RoutingStrategy) {
		wrong("ROUTING_STRATEGY", "Use least_loaded, least_latency, round_robin or random", "%.40q is not a strategy", c.RoutingStrategy)
	}
	if !slices.Contains([]string{"auto", "espeak", "tone", "stamp"}, c.WorkerEngine) {
		wrong("WORKER_ENGINE", "Use espeak, tone, stamp or auto", "%.40q is not an engine", c.WorkerEngine)
	}
	if c.WorkerAdvertise != "" {
		if _, err := clients.ParseAddr(c.WorkerAdvertise); err != nil {
			wrong("WORKER_ADVERTISE", "Use host:port", "%v", err)
		}
	}
	for _, v := range []struct{ name, host string }{{"HOST", c.Host}, {"HEALTH_HOST", c.HealthHost}, {"WORKER_HOST", c.WorkerHost}} {
		if net.ParseIP(v.host) == nil && v.host != "localhost" {
			wrong(v.name, "Use an address of this machine, or 0.0.0.0 or :: for all", "%.60q is not an IP address", v.host)
		}
	}
	if _, err := parseKeys(c.APIKeys); err != nil {
		wrong("API_KEYS", "Write name:hash, several set apart by commas; 'voxedge newkey NAME' makes one", "%v", err)
	}
	if c.JWTSecret != "" && len(c.JWTSecret) < 32 {
		wrong("JWT_SECRET", "Make one: openssl rand -hex 32", "it has %d characters, too few for a secret", len(c.JWTSecret))
	}
	if u, err := url.Parse(c.JWKSURL); c.JWKSURL != "" && (err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "") {
		wrong("JWT_JWKS_URL", "Give the https:// URL of the issuer's keys", "it is not the URL of a web page") // and may hold a password
	}
	for _, v := range []struct{ name, value string }{{"JWT_AUDIENCE", c.JWTAudience}, {"JWT_ISSUER", c.JWTIssuer}} {
		if v.value != "" && c.JWTSecret == "" && c.JWKSURL == "" {
			wrong(v.name, "Set JWT_SECRET or JWT_JWKS_URL too, or leave it out", "no token is asked for, so nobody is held to it")
		}
	}
	if _, err := middleware.ParseOrigins(c.Origins); err != nil {
		wrong("ALLOWED_ORIGINS", "Write https://app.example.com, https://*.example.com or *, several set apart by commas", "%v", err)
	}
	if _, err := middleware.ParseProxies(c.Proxies); err != nil {
		wrong("TRUSTED_PROXIES", "Write addresses and networks such as 10.0.0.0/8, set apart by commas", "%v", err)
	}
	for _, pair := range [][4]string{{"TLS_CERT_FILE", c.TLSCertFile, "TLS_KEY_FILE", c.TLSKeyFile}, {"WORKER_TLS_CERT", c.WorkerTLSCert, "WORKER_TLS_KEY", c.WorkerTLSKey}} {
		if (pair[1] == "") != (pair[3] == "") {
			wrong(pair[0], "Set both or none", "of %s and %s one is empty", pair[0], pair[2])
		}
	}
	if c.WorkerTLSCA == "" && c.WorkerTLSCert != "" {
		wrong("WORKER_TLS_CERT", "Set WORKER_TLS_CA too, or leave it out", "WORKER_TLS_CA is empty, so it is shown to nobody")
	}
	if c.WorkerTLSCA == "" && c.WorkerTLSServerName != "" {
		wrong("WORKER_TLS_SERVER_NAME", "Set WORKER_TLS_CA too, or leave it out", "WORKER_TLS_CA is empty, so there is no TLS to workers, and no certificate is looked at")
	}
	if c.RunDir != "" && !filepath.IsAbs(c.RunDir) {
		wrong("RUN_DIR", "Give the whole path, from /", "%.60q is not one", c.RunDir)
	}
	if c.Port != 0 && c.Port == c.HealthPort {
		wrong("HEALTH_PORT", "Give the two different ports", "it is the same as PORT, %d", c.Port)
	}
	if queued := time.Duration(c.FrameQueueSize) * session.FrameDuration; queued < c.PacingLead {
		wrong("FRAME_QUEUE_SIZE", "Raise it, or lower PACING_LEAD", "%d frames are %s, less than PACING_LEAD (%s)", c.FrameQueueSize, queued, c.PacingLead)
	}
	if c.PacingLead < 2*session.FrameDuration {
		wrong("PACING_LEAD", "Give 40ms or more", "%s is less than two frames, so that the client runs dry when one is late at all", c.PacingLead)
	}
	if i := c.PacingInterval; i > session.MaxPacingInterval || i%session.FrameDuration != 0 {
		wrong("PACING_INTERVAL", "Give 20ms, 40ms or 60ms", "%s is not the time of one, two or three frames", i)
	} else if i > session.FrameDuration && i > c.PacingLead/2 {
		wrong("PACING_INTERVAL", "Give at most half of PACING_LEAD, so that the client does not run dry", "%s is more than half of PACING_LEAD (%s)", i, c.PacingLead)
	}
	return problems
}

// checkServe holds together what an edge needs besides.
func (c *Config) checkServe() []Problem {
	if c.RedisURL == RedisOff && c.WorkerAddr == "" {
		return []Problem{{"WORKER_ADDR", "it is empty, and REDIS_URL is off", "Give the workers' addresses, or a REDIS_URL to find them in"}}
	}
	return nil
}

// leaving is what an edge takes at most behind SHUTDOWN_TIMEOUT, closing sockets
// and sending the last traces.
const leaving = 6 * time.Second

// platformKills are known platforms, by a variable of theirs, and what they
// wait when they are not told otherwise.
var platformKills = []struct {
	variable, name, setting string
	wait                    time.Duration
}{
	{"FLY_APP_NAME", "Fly.io", "kill_timeout in fly.toml", 5 * time.Second},
	{"KUBERNETES_SERVICE_HOST", "Kubernetes", "terminationGracePeriodSeconds", 30 * time.Second},
}

// checkPlatform holds the drain against what the platform allows for it.
func (c *Config) checkPlatform(environ map[string]string) []Problem {
	need := c.ShutdownTimeout + leaving
	if c.KillTimeout > 0 {
		if need > c.KillTimeout {
			return []Problem{{"SHUTDOWN_TIMEOUT", fmt.Sprintf("with %s it may take %s to leave, and KILL_TIMEOUT is %s", c.ShutdownTimeout, need, c.KillTimeout),
				"Lower it, or raise the platform's kill timeout and KILL_TIMEOUT with it"}}
		}
		return nil
	}
	for _, p := range platformKills {
		if environ[p.variable] != "" && need > p.wait {
			return []Problem{{"SHUTDOWN_TIMEOUT", fmt.Sprintf("with %s it may take %s to leave, and %s kills after %s by default", c.ShutdownTimeout, need, p.name, p.wait),
				fmt.Sprintf("Lower it, or raise %s and set KILL_TIMEOUT to the same", p.setting)}}
		}
	}
	return nil
}

var zeroIsNoLimit = map[string]bool{"IDLE_TIMEOUT": true, "MAX_SESSION_DURATION": true, "PING_INTERVAL": true, "KILL_TIMEOUT": true}

// bounds returns the least and the most that the whole number may be.
func bounds(name string) (low, high int) {
	switch name {
	case "PORT", "HEALTH_PORT", "WORKER_PORT":
		return 0, 65535
	case "MAX_MESSAGES_PER_SESSION", "MAX_MESSAGES_PER_SECOND", "WORKER_MAX_SESSIONS", "KEY_MAX_CONNECTIONS", "KEY_CONNECTS_PER_MINUTE", "KEY_CHARACTERS_PER_MINUTE", "KEY_AUDIO_SECONDS_PER_DAY",
		"ADDRESS_MAX_CONNECTIONS", "ADDRESS_CONNECTS_PER_MINUTE", "ADDRESS_CHARACTERS_PER_MINUTE", "ADDRESS_AUDIO_SECONDS_PER_DAY":
		return 0, 1 << 30
	case "FRAME_QUEUE_SIZE": // room for the least PACING_LEAD
		return 2, 3000
	case "TRACE_BUFFER_BYTES":
		return 1 << 20, 1 << 40
	case "MAX_MESSAGE_BYTES":
		return 1 << 10, 16 << 20
	}
	return 1, 1 << 30
}

// variable is one variable of the environment, as .env.example shows it.
type variable struct {
	name     string
	fallback string
	doc      string
	value    any
}

// variables lists all variables in the order of the struct.
func (c *Config) variables() []variable {
	var all []variable
	v := reflect.ValueOf(c).Elem()
	for i := range v.NumField() {
		tag := v.Type().Field(i).Tag
		if tag == "" {
			continue
		}
		all = append(all, variable{tag.Get("env"), tag.Get("envDefault"), tag.Get("doc"), v.Field(i).Interface()})
	}
	return all
}

// EnvExample returns the text of .env.example.
func EnvExample() string {
	var b strings.Builder
	b.WriteString("# All of voxedge's configuration, with the defaults. Unset or empty means the default.\n" +
		"# OpenTelemetry's own variables (OTEL_*) apply unchanged.\n")
	for _, v := range new(Config).variables() {
		fmt.Fprintf(&b, "\n# %s\n%s=%s\n", v.doc, v.name, v.fallback)
	}
	return b.String()
}
