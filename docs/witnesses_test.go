package docs

import (
	"testing"

	"fabtrail.dev/fabtrail/client"
)

func TestAlarmsAreThoseOfTheCode(t *testing.T) {
	var listed, all []string
	for _, r := range rows(t, read(t, "witnesses.md"), "| alarm |") {
		listed = append(listed, firstCell(r))
	}
	for _, code := range client.Alarms {
		all = append(all, "`"+code+"`")
	}
	same(t, "witnesses.md", listed, all)
}
