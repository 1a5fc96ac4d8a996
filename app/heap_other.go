//go:build !linux

package app

import "errors"

func adviseHeap(uint64) error { return errors.ErrUnsupported }
