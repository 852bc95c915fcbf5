// Package freeport finds ports for processes that tests start. They lie below the range
// from which the system gives ports away by itself, so that no other process gets one
// between its being found free and its being used.
package freeport

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
)

const (
	lowest = 20000
	count  = 12000 // up to 31999; Linux gives away those from 32768 on
)

var next atomic.Uint32

// Get returns a port on loopback that nobody listens at and that this process has
// not returned before. Processes begin in different places.
func Get() (int, error) {
	for range count {
		port := lowest + (os.Getpid()*97+int(next.Add(1)))%count
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		return port, l.Close()
	}
	return 0, errors.New("no port is free")
}
