// Package clients owns the outside that the edge calls: the workers (gRPC
// connections, health, routing, failover) and Redis (the registry of workers).
// It may import session and proto.
package clients
