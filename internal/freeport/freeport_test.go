package freeport

import (
	"fmt"
	"net"
	"testing"
)

// TestGet: ports differ, nobody listens at them, and the system does not give them away.
func TestGet(t *testing.T) {
	seen := map[int]bool{}
	for range 50 {
		p, err := Get()
		if err != nil || seen[p] || p < lowest || p >= lowest+count {
			t.Fatalf("port %d, %v", p, err)
		}
		seen[p] = true
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", p))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
	}
}
