package app

import (
	"context"
	"net/url"

	"github.com/voxedge/voxedge/doctor"
)

// preflight looks, before an edge starts, at everything that it will need.
func preflight(ctx context.Context, c command) error {
	flags := c.flags("preflight")
	platform := flags.String("platform", "", platformUsage)
	asJSON := flags.Bool("json", false, "report as one JSON object")
	if err := flags.Parse(c.args); err != nil {
		return usageError(err)
	}
	if err := noMore(flags); err != nil {
		return err
	}
	run, err := platformNamed(*platform)
	if err != nil {
		return err
	}
	cfg, log, err := c.configure(c.stderr, (*Config).checkServe)
	if err != nil {
		return err
	}
	plan := doctor.Plan{
		Ports:          []doctor.Port{{Variable: "PORT", Host: cfg.Host, Number: cfg.Port}, {Variable: "HEALTH_PORT", Host: cfg.HealthHost, Number: cfg.HealthPort}},
		MaxConnections: cfg.MaxConnections, SessionRedis: cfg.SessionRedisURL, WorkerAddr: cfg.WorkerAddr, CertFile: cfg.TLSCertFile, KeyFile: cfg.TLSKeyFile, Platform: run,
	}
	if plan.App = c.environ["FLY_APP_NAME"]; plan.Platform == "" {
		redis, _ := url.Parse(cfg.RedisURL) // it is one, or off
		plan.Platform = doctor.PlatformHere(redis.Hostname(), c.environ)
	}
	if plan.WorkerTLS, err = workerTLS(cfg, log); err != nil {
		return err
	}
	if cfg.RedisURL != RedisOff {
		plan.RedisURL = cfg.RedisURL
	}
	if cfg.tracing {
		plan.TraceBytes = cfg.TraceBufferBytes
		if plan.Collector = c.environ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"]; plan.Collector == "" {
			plan.Collector = c.environ["OTEL_EXPORTER_OTLP_ENDPOINT"]
		}
	}
	report := doctor.Preflight(ctx, plan)
	c.show(&report, *asJSON)
	return exitWith(report.Status)
}
