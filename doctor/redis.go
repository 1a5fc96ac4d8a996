package doctor

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

const redisTimeout = time.Second

// redisURL is the edge's, or empty where it is not known or off.
func (e *examination) redisURL() string {
	fallback := ""
	if e.holder.isEdge() {
		fallback = "redis://localhost:6379" // the edge's own default
		if strings.Contains(e.holder.Command, " dev") {
			return "" // it is in the edge itself
		}
	}
	if u := e.environ("REDIS_URL", fallback); u != "off" {
		return u
	}
	return ""
}

func (e *examination) checkRedis(ctx context.Context) Step {
	well, known, why := e.says("redis")
	target := e.redisURL()
	switch {
	case known && well && target == "":
		return ok("redis", "the edge says that it is well")
	case known && !well && target == "":
		return e.failed("redis", redisCause(errors.New(why)), nil, "the edge says: %s", why)
	case target == "":
		return Step{}
	}
	began := time.Now()
	cause, err := pingRedis(ctx, target)
	switch {
	case err == nil && known && !well && !e.asksAgain(ctx, "redis"):
		_, _, why = e.says("redis")
		return e.failed("redis", redisCause(errors.New(why)), nil, "it answers here, but the edge says: %s", why)
	case err == nil && e.here && e.environ("SESSION_REDIS_URL", "") == "":
		return e.written(ctx, "redis", target, began)
	case err == nil:
		return ok("redis", "%s answers (%s)", redacted(target), millis(time.Since(began)))
	case known && well:
		return skipped("redis", "the edge reaches it; from here, %s does not answer (%v)", redacted(target), err)
	}
	return e.failed("redis", cause, nil, "%s: %v", redacted(target), err)
}

// written is the step of a Redis that answers, and has yet to take a key: the
// edge's own look at it is a PING, which a replica or a full one answers too.
func (e *examination) written(ctx context.Context, step, target string, began time.Time) Step {
	if cause, err := writeRedis(ctx, target); err != nil {
		return e.failed(step, cause, nil, "%s answers, and does not let itself be written: %v", redacted(target), err)
	}
	return ok(step, "%s answers and can be written (%s)", redacted(target), millis(time.Since(began)))
}

// checkSessionRedis looks at the Redis that sessions have of their own.
func (e *examination) checkSessionRedis(ctx context.Context) Step {
	target := e.environ("SESSION_REDIS_URL", "")
	if target == "" || !e.here {
		return Step{}
	}
	began := time.Now()
	cause, err := pingRedis(ctx, target)
	s := e.failed("session redis", cause, nil, "%s: %v", redacted(target), err)
	if err == nil {
		if s = e.written(ctx, "session redis", target, began); s.Finding == nil {
			return s
		}
	}
	for _, text := range []*string{&s.Measured, &s.Because, &s.Resolution} {
		*text = strings.ReplaceAll(*text, "REDIS_URL", "SESSION_REDIS_URL")
	}
	return s
}

// redacted is the URL without its password.
func redacted(target string) string {
	u, err := url.Parse(target)
	if err != nil {
		return "the URL"
	}
	return u.Redacted()
}

var errNoRedisURL = errors.New("it is not a Redis URL")

// newRedis returns a client that tries once.
func newRedis(target string) (*redis.Client, error) {
	options, err := redis.ParseURL(target)
	if err != nil {
		return nil, errNoRedisURL
	}
	options.DialTimeout, options.ReadTimeout, options.WriteTimeout, options.MaxRetries = redisTimeout, redisTimeout, redisTimeout, -1
	options.DialerRetries, options.DisableIdentity, options.ContextTimeoutEnabled = 1, true, true
	options.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return redis.NewClient(options), nil
}

// pingRedis connects as the edge does, and finds the cause where it cannot.
func pingRedis(ctx context.Context, target string) (Cause, error) {
	client, err := newRedis(target)
	if err != nil {
		return redisCause(err), err
	}
	defer func() { _ = client.Close() }()
	network, addr := client.Options().Network, client.Options().Addr
	if err := dialTo(ctx, network, addr); err != nil {
		return redisCause(err), err
	}
	asking, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	if err := client.Ping(asking).Err(); err != nil {
		if isTimeout(err) && client.Options().TLSConfig != nil && speaksPlain(ctx, addr) {
			return RedisTLS, errors.New("the URL says TLS, and without TLS it answers")
		}
		if isTimeout(err) {
			return RedisHung, fmt.Errorf("connected, and no answer within %s", redisTimeout)
		}
		if refusal := unasked(ctx, network, addr); refusal != "" { // and the connection was cut on it
			err = errors.New(refusal)
		}
		return redisCause(err), err
	}
	return Cause{}, nil
}

// doctorPrefix is before the keys that the doctor writes.
const doctorPrefix = "voxedge:doctor:"

// writeRedis writes a key that is soon gone.
func writeRedis(ctx context.Context, target string) (Cause, error) {
	client, err := newRedis(target)
	if err != nil {
		return redisCause(err), err
	}
	defer func() { _ = client.Close() }()
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	if err := client.Set(ctx, doctorPrefix+strconv.Itoa(os.Getpid()), "1", time.Second).Err(); err != nil {
		return redisCause(err), err
	}
	return Cause{}, nil
}

// unasked is the error with which a Redis turns away a connection before it is
// asked anything: it has too many, or is in protected mode.
func unasked(ctx context.Context, network, addr string) string {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	if err != nil {
		return ""
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	line, _ := bufio.NewReader(io.LimitReader(conn, 1024)).ReadString('\n')
	words, isError := strings.CutPrefix(strings.TrimSpace(line), "-")
	if !isError {
		return ""
	}
	return words
}

// speaksPlain reports whether a Redis there answers without TLS.
func speaksPlain(ctx context.Context, addr string) bool {
	client, err := newRedis("redis://" + addr)
	if err != nil {
		return false
	}
	defer func() { _ = client.Close() }()
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	err = client.Ping(ctx).Err()
	return err == nil || redisCause(err).ID == RedisAuth.ID
}

// redisCause tells it from what a client said.
func redisCause(err error) Cause {
	text := err.Error()
	says := func(parts ...string) bool {
		for _, p := range parts {
			if strings.Contains(text, p) {
				return true
			}
		}
		return false
	}
	_, isRedis := errors.AsType[redis.Error](err)
	switch {
	case errors.Is(err, errNoRedisURL):
		return ConfigInvalid.of("REDIS_URL")
	case isNotFound(err), says("no such host"):
		return RedisName
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH), says("no route to host", "network is unreachable"):
		return RedisNoRoute
	case says("x509:", "remote error: tls:", "certificate"): // both speak TLS
		return RedisCertificate
	case errors.Is(err, syscall.ECONNREFUSED), says("connection refused"):
		return RedisClosed
	case says("NOAUTH", "WRONGPASS", "invalid password", "invalid username-password", "without any password configured"):
		return RedisAuth
	case says("LOADING"):
		return RedisLoading
	case says("DB index is out of range", "invalid DB index", "SELECT is not allowed"):
		return RedisDatabase
	case says("tls:"), errors.Is(err, io.EOF), text == "EOF", says("connection reset by peer"):
		return RedisTLS // a Redis with TLS hangs up on one who speaks none
	case isDial(err) && isTimeout(err), says("dial tcp") && says("i/o timeout"):
		return RedisDropped
	case isTimeout(err), says("i/o timeout", "no answer within"):
		return RedisHung
	case isRedis, says("ERR ", "NOPERM", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "DENIED", "OOM ", "MISCONF"):
		return RedisError
	}
	return RedisNot
}

func isDial(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "dial"
}
