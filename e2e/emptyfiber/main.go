// Emptyfiber is a Fiber server with nothing in it, the reference of the
// cold-start benchmark. It listens on the address it is given.
package main

import (
	"os"

	"github.com/gofiber/fiber/v2"
)

func main() {
	app := fiber.New(fiber.Config{DisableStartupMessage: true})
	if err := app.Listen(os.Args[1]); err != nil {
		panic(err)
	}
}
