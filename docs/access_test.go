package docs

import (
	"fmt"
	"testing"

	"fabtrail.dev/fabtrail/internal/node"
)

func TestAccessIsThatOfTheCode(t *testing.T) {
	var want []string
	for res, grants := range node.Access {
		row := fmt.Sprintf("| %s |", node.Resources[res])
		for _, g := range grants {
			row += fmt.Sprintf(" %s |", g)
		}
		want = append(want, row)
	}
	head := "| what |"
	for _, r := range node.Relations {
		head += fmt.Sprintf(" %s |", r)
	}
	same(t, "operations.md", rows(t, read(t, "operations.md"), head), want)
}
