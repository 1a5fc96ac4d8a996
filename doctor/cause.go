package doctor

import "strings"

// Cause is one thing that can be wrong. Its ID is also its heading in the
// runbook, and its status the command's exit status.
type Cause struct {
	ID      string
	Status  int
	Runbook string // file in docs/runbooks
	Title   string // what is wrong, as a clause: "nothing listens at the port"
	// What to do, by how the thing is run; where Compose or Fly is empty, Local.
	// {host}, {port}, {app}, {pid} and {what} are filled in.
	Local, Compose, Fly string
}

// The causes. A status, once given, stays.
var (
	URLInvalid       = Cause{ID: "url_invalid", Status: 10, Runbook: "websocket.md", Title: "the URL is not one of a WebSocket", Local: "Write it as ws://host:port/v1/stream, or wss://host/v1/stream where TLS is"}
	URLScheme        = Cause{ID: "url_scheme", Status: 11, Runbook: "websocket.md", Title: "the URL is for web pages, not for WebSockets", Local: "Use {what} in its place"}
	NameNotFound     = Cause{ID: "name_not_found", Status: 12, Runbook: "websocket.md", Title: "the host's name does not exist", Local: "Correct the host in the URL: getent hosts {host}", Compose: "Use the service's name inside the network (docker compose config --services) or localhost outside", Fly: "Correct the app's name (fly apps list), or give it an address: fly ips allocate-v4 --shared -a {app}"}
	NameServer       = Cause{ID: "name_server", Status: 13, Runbook: "websocket.md", Title: "the name server does not answer", Local: "See that this machine has a network and a name server that works: cat /etc/resolv.conf"}
	PortClosed       = Cause{ID: "port_closed", Status: 14, Runbook: "ports.md", Title: "nothing listens at the port", Local: "Start the edge (voxedge serve, or voxedge dev for everything at once), or correct the port in the URL", Compose: "docker compose up -d orchestrator; docker compose logs orchestrator", Fly: "fly machine list -a {app}; fly machine start -a {app}; fly logs -a {app}"}
	PacketsDropped   = Cause{ID: "packets_dropped", Status: 15, Runbook: "ports.md", Title: "packets to the port are dropped", Local: "Open the port in the firewall between here and there (sudo ufw allow {port}/tcp; in a cloud, its security group), or correct the host", Compose: "Publish the port in docker-compose.yml (ports: [\"{port}:8080\"]) and open it in the host's firewall", Fly: "Use wss://{app}.fly.dev without a port: only the ports of [http_service] are open"}
	NoRoute          = Cause{ID: "no_route", Status: 16, Runbook: "ports.md", Title: "there is no way to the host", Local: "See that this machine's network or VPN is up: ip route get {host}"}
	ConnectionReset  = Cause{ID: "connection_reset", Status: 17, Runbook: "ports.md", Title: "the connection is cut as soon as it is open", Local: "See what is between (a proxy, a load balancer without a living target) and the log of what listens at port {port}", Fly: "fly logs -a {app}; see that internal_port in fly.toml is PORT"}
	EdgeCrashed      = Cause{ID: "edge_crashed", Status: 18, Runbook: "logs.md", Title: "the edge has ended without being asked to", Local: "Start it again (voxedge serve), and report what it ended with", Compose: "docker compose up -d orchestrator; docker compose logs orchestrator", Fly: "fly machine start -a {app}; fly logs -a {app}"}
	EdgeOutOfMemory  = Cause{ID: "edge_out_of_memory", Status: 19, Runbook: "logs.md", Title: "the edge has run out of memory", Local: "Give it more memory or lower MAX_CONNECTIONS ('voxedge preflight' says how many fit), and start it again", Compose: "Raise mem_limit or lower MAX_CONNECTIONS; docker compose up -d orchestrator", Fly: "fly scale memory 1024 -a {app}, or lower MAX_CONNECTIONS"}
	Silent           = Cause{ID: "silent", Status: 20, Runbook: "ports.md", Title: "what listens at the port says nothing", Local: "See what it is ('ss -ltnp sport = :{port}') and restart it, or correct the port in the URL", Compose: "docker compose restart orchestrator; docker compose logs orchestrator", Fly: "fly machine restart -a {app}; fly logs -a {app}"}
	ProcessStopped   = Cause{ID: "process_stopped", Status: 21, Runbook: "ports.md", Title: "the process that listens at the port is stopped", Local: "kill -CONT {pid}"}
	OtherProgram     = Cause{ID: "other_program", Status: 22, Runbook: "ports.md", Title: "another program answers at the port", Local: "Correct the host and port in the URL, or end that program and start the edge"}
	HealthPort       = Cause{ID: "health_port", Status: 23, Runbook: "websocket.md", Title: "this is the edge's health port", Local: "Use port {what} in the URL"}
	TLSToPlain       = Cause{ID: "tls_to_plain", Status: 24, Runbook: "websocket.md", Title: "the URL says TLS, and the port speaks none", Local: "Use ws:// in the URL, or the port that speaks TLS"}
	PlainToTLS       = Cause{ID: "plain_to_tls", Status: 25, Runbook: "websocket.md", Title: "the port speaks TLS, and the URL says none", Local: "Use wss:// in the URL"}
	CertExpired      = Cause{ID: "certificate_expired", Status: 26, Runbook: "websocket.md", Title: "the certificate is not valid at this time", Local: "Renew it where TLS ends; if the dates are right, set this machine's clock", Fly: "fly certs show {host} -a {app}"}
	CertName         = Cause{ID: "certificate_name", Status: 27, Runbook: "websocket.md", Title: "the certificate is for another name", Local: "Use one of its names in the URL ({what}), or a certificate for {host}", Fly: "fly certs add {host} -a {app}"}
	CertUnknown      = Cause{ID: "certificate_unknown", Status: 28, Runbook: "websocket.md", Title: "the certificate's issuer is not trusted here", Local: "Use a certificate of a public issuer, or install the issuer's on this machine (SSL_CERT_FILE=ca.pem)"}
	TLSFailed        = Cause{ID: "tls_failed", Status: 29, Runbook: "websocket.md", Title: "TLS could not be set up", Local: "See the versions and certificates where TLS ends: openssl s_client -connect {host}:{port}"}
	UpgradeStripped  = Cause{ID: "upgrade_stripped", Status: 30, Runbook: "websocket.md", Title: "a proxy between drops the WebSocket upgrade", Local: "Have it pass the Upgrade and Connection headers on (nginx: proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade)"}
	WrongPath        = Cause{ID: "wrong_path", Status: 31, Runbook: "websocket.md", Title: "there is no WebSocket at the path", Local: "Use the path /v1/stream"}
	Redirected       = Cause{ID: "redirected", Status: 32, Runbook: "websocket.md", Title: "the URL leads elsewhere, and WebSocket clients do not follow", Local: "Use {what}"}
	BadGateway       = Cause{ID: "bad_gateway", Status: 33, Runbook: "websocket.md", Title: "the proxy before the edge cannot reach it", Local: "Start the edge, and see that the proxy's upstream is its address and PORT", Compose: "docker compose ps; docker compose logs orchestrator", Fly: "fly machine list -a {app}; fly logs -a {app}; internal_port in fly.toml must be PORT, and HOST 0.0.0.0"}
	NoUpstream       = Cause{ID: "gateway_unavailable", Status: 34, Runbook: "websocket.md", Title: "the proxy before the edge has none that is ready", Local: "See why the edges are not ready: curl http://<edge>:8081/health", Fly: "fly checks list -a {app}; fly scale count 2 -a {app}"}
	GatewayTimeout   = Cause{ID: "gateway_timeout", Status: 35, Runbook: "websocket.md", Title: "the edge does not answer its proxy", Local: "See whether the edge hangs: curl -m 2 http://<edge>:8081/liveness", Fly: "fly machine restart -a {app}; fly logs -a {app}"}
	Unauthorized     = Cause{ID: "unauthorized", Status: 36, Runbook: "websocket.md", Title: "the edge wants to know who comes", Local: "Give what it asks for, such as --header 'Authorization: Bearer <key>'"}
	Forbidden        = Cause{ID: "forbidden", Status: 37, Runbook: "websocket.md", Title: "this client may not come in", Local: "See the origins and addresses that the edge, or a proxy before it, lets in"}
	RateLimited      = Cause{ID: "rate_limited", Status: 38, Runbook: "backpressure.md", Title: "this client has come too often", Local: "Wait as long as Retry-After says, or have its limit raised"}
	AtCapacity       = Cause{ID: "at_capacity", Status: 39, Runbook: "backpressure.md", Title: "the edge has all its sessions", Local: "Start another edge or raise MAX_CONNECTIONS; 'curl http://<edge>:8081/metrics' shows how many are taken", Compose: "Raise MAX_CONNECTIONS in docker-compose.yml; docker compose up -d orchestrator", Fly: "fly scale count 2 -a {app}, or raise MAX_CONNECTIONS and hard_limit"}
	EdgeDraining     = Cause{ID: "draining", Status: 40, Runbook: "backpressure.md", Title: "the edge is being stopped", Local: "Connect again in a second; if no other edge takes its place, start one (voxedge serve)", Fly: "fly machine list -a {app}; fly machine start -a {app}"}
	NoSessionStart   = Cause{ID: "no_session_start", Status: 41, Runbook: "websocket.md", Title: "the WebSocket is not one of voxedge", Local: "Correct the host, port and path in the URL"}
	Refused          = Cause{ID: "refused", Status: 42, Runbook: "websocket.md", Title: "the edge refuses the session", Local: "Do what its answer says"}
	HealthUnanswered = Cause{ID: "health_unanswered", Status: 43, Runbook: "ports.md", Title: "the health port does not answer", Local: "See that HEALTH_PORT is the edge's ({port}), and what listens there: ss -ltnp sport = :{port}"}
	OtherAddress     = Cause{ID: "other_address", Status: 44, Runbook: "ports.md", Title: "the port is listened at on another address only", Local: "Set HOST of the edge to 0.0.0.0, or to the address in the URL, and start it again; or use {what} in the URL", Compose: "Set HOST: 0.0.0.0 for the orchestrator; docker compose up -d orchestrator", Fly: "Set HOST = '0.0.0.0' under [env] in fly.toml; fly deploy -a {app}"}
	Rejected         = Cause{ID: "connection_rejected", Status: 45, Runbook: "ports.md", Title: "the connection is turned away before what listens at the port", Local: "Let port {port} through the firewall here (sudo nft list ruleset, or sudo iptables -L -n, shows what rejects it)"}

	RedisName     = Cause{ID: "redis_name", Status: 50, Runbook: "redis.md", Title: "Redis' host does not exist", Local: "Correct the host in REDIS_URL", Compose: "Use the service's name: REDIS_URL=redis://redis:6379", Fly: "fly redis status <name>; fly secrets set REDIS_URL=<its private URL> -a {app}"}
	RedisClosed   = Cause{ID: "redis_refused", Status: 51, Runbook: "redis.md", Title: "no Redis listens where REDIS_URL says", Local: "Start Redis (redis-server, or docker compose up -d redis), or correct REDIS_URL", Compose: "docker compose up -d redis; docker compose logs redis", Fly: "fly redis status <name>; fly secrets set REDIS_URL=<its private URL> -a {app}"}
	RedisDropped  = Cause{ID: "redis_dropped", Status: 52, Runbook: "redis.md", Title: "packets to Redis are dropped", Local: "Open Redis' port between the edge and Redis, or correct REDIS_URL"}
	RedisHung     = Cause{ID: "redis_hung", Status: 53, Runbook: "redis.md", Title: "Redis takes connections and does not answer", Local: "See what it does (redis-cli --latency; top): a stopped process, a long script, or swapping; restart it", Compose: "docker compose restart redis"}
	RedisAuth     = Cause{ID: "redis_auth", Status: 54, Runbook: "redis.md", Title: "Redis wants another password", Local: "Put the user and password in REDIS_URL: redis://user:password@host:port"}
	RedisLoading  = Cause{ID: "redis_loading", Status: 55, Runbook: "redis.md", Title: "Redis is reading its data from the disk", Local: "Wait until it is done: redis-cli info persistence"}
	RedisDatabase = Cause{ID: "redis_database", Status: 56, Runbook: "redis.md", Title: "Redis has no such database", Local: "Take the number off the end of REDIS_URL, or raise databases in redis.conf"}
	RedisTLS      = Cause{ID: "redis_tls", Status: 57, Runbook: "redis.md", Title: "one of the edge and Redis speaks TLS, the other not", Local: "Use rediss:// in REDIS_URL where Redis speaks TLS, and redis:// where not"}
	RedisNot      = Cause{ID: "redis_not", Status: 58, Runbook: "redis.md", Title: "what answers where REDIS_URL says is not Redis", Local: "Correct the host and port in REDIS_URL"}
	RedisError    = Cause{ID: "redis_error", Status: 59, Runbook: "redis.md", Title: "Redis answers with an error", Local: "Do what the error says, on Redis"}

	NoWorker            = Cause{ID: "no_worker", Status: 60, Runbook: "workers.md", Title: "no worker is announced", Local: "Start a worker (voxedge worker) with the same REDIS_URL as the edge, or set WORKER_ADDR", Compose: "docker compose up -d tts-worker; docker compose logs tts-worker", Fly: "Start a worker that uses the same REDIS_URL, or fly secrets set WORKER_ADDR=<host:port> -a {app}"}
	WorkerClosed        = Cause{ID: "worker_refused", Status: 61, Runbook: "workers.md", Title: "no worker listens where it is announced", Local: "Start the worker (voxedge worker), or correct WORKER_ADDR or the address it announces (WORKER_ADVERTISE)", Compose: "docker compose up -d tts-worker; docker compose logs tts-worker"}
	WorkerDropped       = Cause{ID: "worker_dropped", Status: 62, Runbook: "workers.md", Title: "packets to the worker are dropped", Local: "Open the worker's port for the edge, or have it announce an address that edges reach (WORKER_ADVERTISE)"}
	WorkerHung          = Cause{ID: "worker_hung", Status: 63, Runbook: "workers.md", Title: "the worker takes connections and does not answer", Local: "Restart the worker; its log says what it did last", Compose: "docker compose restart tts-worker"}
	WorkerNotServing    = Cause{ID: "worker_not_serving", Status: 64, Runbook: "workers.md", Title: "the worker says that it does not serve", Local: "See its log: it is loading its model, or being stopped"}
	WorkerWrongService  = Cause{ID: "worker_wrong_service", Status: 65, Runbook: "workers.md", Title: "what listens there serves gRPC, but not tts.TTSService", Local: "Correct WORKER_ADDR, or the address the worker announces; proto/tts.proto is the contract"}
	WorkerNotGRPC       = Cause{ID: "worker_not_grpc", Status: 66, Runbook: "workers.md", Title: "what listens there does not speak gRPC", Local: "Correct WORKER_ADDR, or the address the worker announces (WORKER_ADVERTISE)"}
	WorkerUnreachable   = Cause{ID: "worker_unreachable_address", Status: 67, Runbook: "workers.md", Title: "the worker announces an address that edges cannot reach", Local: "Set WORKER_ADVERTISE to the worker's host:port as the edges see it"}
	WorkersBusy         = Cause{ID: "workers_busy", Status: 68, Runbook: "workers.md", Title: "the workers have all their sessions", Local: "Start more workers, or raise WORKER_MAX_SESSIONS"}
	WorkerError         = Cause{ID: "worker_error", Status: 69, Runbook: "workers.md", Title: "the worker answers with an error", Local: "See the worker's log"}
	WorkerBadAnnounce   = Cause{ID: "worker_bad_announcement", Status: 70, Runbook: "workers.md", Title: "what the worker announces cannot be read", Local: "Correct what it writes to Redis under worker:<name>; docs/workers.md has the format"}
	WorkerUnavailable   = Cause{ID: "worker_unavailable", Status: 71, Runbook: "workers.md", Title: "the edge has no worker that can speak", Local: "Look at the edge's /health, and run voxedge doctor where the edge runs: it can see the workers from there", Fly: "fly ssh console -a {app} -C '/voxedge doctor'"}
	SynthesisFailed     = Cause{ID: "synthesis_failed", Status: 72, Runbook: "workers.md", Title: "the workers fail to speak", Local: "See the workers' logs"}
	NoAudio             = Cause{ID: "no_audio", Status: 73, Runbook: "workers.md", Title: "the session is open, and no sound comes", Local: "See the worker's log; the edge gives it WORKER_FIRST_FRAME_TIMEOUT before it tries another"}
	FramesMissing       = Cause{ID: "frames_missing", Status: 74, Runbook: "backpressure.md", Title: "frames are missing on the way", Local: "See what is between that drops or joins WebSocket messages; the edge itself drops none"}
	SlowSpeech          = Cause{ID: "slow_speech", Status: 75, Runbook: "backpressure.md", Title: "speech comes slower than it is heard", Local: "See the worker's real-time factor (rtf, must be below 1), its processor, and the network between: voxedge say --trace shows where the time goes"}
	RedisCertificate    = Cause{ID: "redis_certificate", Status: 76, Runbook: "redis.md", Title: "the edge and Redis both speak TLS, and do not agree", Local: "In REDIS_URL use the name that Redis' certificate is for, have its issuer trusted here (SSL_CERT_FILE=ca.pem), and set tls-auth-clients no on Redis: the edge shows it no certificate"}
	RedisNoRoute        = Cause{ID: "redis_no_route", Status: 77, Runbook: "redis.md", Title: "there is no way to Redis' host", Local: "See that this machine's network or VPN is up, and correct the host in REDIS_URL"}
	WorkerTLS           = Cause{ID: "worker_tls", Status: 78, Runbook: "workers.md", Title: "the edge and the worker do not agree on TLS", Local: "See the edge's WORKER_TLS_CA, WORKER_TLS_CERT, WORKER_TLS_KEY and WORKER_TLS_SERVER_NAME: {what}"}
	ConfigInvalid       = Cause{ID: "config_invalid", Status: 80, Runbook: "environment.md", Title: "the environment is not valid", Local: "Correct {what}"}
	PortTaken           = Cause{ID: "port_taken", Status: 81, Runbook: "ports.md", Title: "the port is taken", Local: "End that process (kill {pid}), or set {what} to a free port"}
	FewDescriptors      = Cause{ID: "few_file_descriptors", Status: 82, Runbook: "environment.md", Title: "there are too few file descriptors for MAX_CONNECTIONS", Local: "Raise the limit (ulimit -n {what}), or lower MAX_CONNECTIONS", Compose: "Set ulimits: { nofile: {what} }, or lower MAX_CONNECTIONS"}
	LittleMemory        = Cause{ID: "little_memory", Status: 83, Runbook: "environment.md", Title: "there is too little memory for MAX_CONNECTIONS", Local: "Give it more memory, or set MAX_CONNECTIONS to at most {what}", Fly: "fly scale memory 1024 -a {app}, or set MAX_CONNECTIONS to at most {what}"}
	ClockWrong          = Cause{ID: "clock_wrong", Status: 84, Runbook: "environment.md", Title: "this machine's clock is wrong", Local: "Set it: timedatectl set-ntp true"}
	CollectorUnanswered = Cause{ID: "collector_unreachable", Status: 85, Runbook: "environment.md", Title: "the OTLP endpoint cannot be reached", Local: "Start the collector (make jaeger), or correct or unset OTEL_EXPORTER_OTLP_ENDPOINT", Compose: "docker compose up -d jaeger"}
)

// Causes are all of them, by status.
var Causes = []Cause{
	URLInvalid, URLScheme, NameNotFound, NameServer, PortClosed, PacketsDropped, NoRoute, ConnectionReset, EdgeCrashed, EdgeOutOfMemory,
	Silent, ProcessStopped, OtherProgram, HealthPort, TLSToPlain, PlainToTLS, CertExpired, CertName, CertUnknown, TLSFailed,
	UpgradeStripped, WrongPath, Redirected, BadGateway, NoUpstream, GatewayTimeout, Unauthorized, Forbidden, RateLimited, AtCapacity,
	EdgeDraining, NoSessionStart, Refused, HealthUnanswered, OtherAddress, Rejected,
	RedisName, RedisClosed, RedisDropped, RedisHung, RedisAuth, RedisLoading, RedisDatabase, RedisTLS, RedisNot, RedisError,
	NoWorker, WorkerClosed, WorkerDropped, WorkerHung, WorkerNotServing, WorkerWrongService, WorkerNotGRPC, WorkerUnreachable, WorkersBusy,
	WorkerError, WorkerBadAnnounce, WorkerUnavailable, SynthesisFailed, NoAudio, FramesMissing, SlowSpeech, RedisCertificate, RedisNoRoute, WorkerTLS,
	ConfigInvalid, PortTaken, FewDescriptors, LittleMemory, ClockWrong, CollectorUnanswered,
}

// Link is where the runbook speaks of the cause.
func (c Cause) Link() string { return "docs/runbooks/" + c.Runbook + "#" + c.ID }

// of is the cause with what it is of filled in.
func (c Cause) of(what string) Cause {
	c.Local = strings.ReplaceAll(c.Local, "{what}", what)
	return c
}

// resolution is what to do about it there, with the blanks filled in.
func (c Cause) resolution(p Platform, blanks map[string]string) string {
	text := c.Local
	switch {
	case p == Compose && c.Compose != "":
		text = c.Compose
	case p == Fly && c.Fly != "":
		text = c.Fly
	}
	for name, value := range blanks {
		text = strings.ReplaceAll(text, "{"+name+"}", value)
	}
	return text
}
