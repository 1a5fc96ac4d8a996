// Package bench owns the measurement of an edge: what a frame costs it, how late
// frames are, what a connection holds. Every number stands beside that of a bare
// TCP relay in the same run, with as many sessions, at the same pace, of messages
// of the same size, for a machine that is shared says nothing by itself.
//
// Edge, worker, relay and its source are processes of their own, whose CPU time
// is the kernel's count; the load comes from the process that measures.
//
// It may import session's wire contract and nothing else of the edge: what it
// measures are processes, as a client meets them.
package bench
