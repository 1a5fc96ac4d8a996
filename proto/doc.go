// Package proto is the wire contract with workers: tts.proto and the Go
// generated from it. It owns no behaviour and imports nothing of ours.
package proto

//go:generate protoc --go_out=. --go_opt=paths=source_relative --go-grpc_out=. --go-grpc_opt=paths=source_relative tts.proto
