// Voxedge is the edge service for real-time voice. See README.md.
package main

import (
	"os"

	"github.com/voxedge/voxedge/app"
)

func main() {
	os.Exit(app.Main(os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr))
}
