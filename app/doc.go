// Package app puts voxedge together: configuration from the environment, the
// wiring of the parts, their start and end, and the subcommands. It may import
// everything; nothing imports it but main.
package app
