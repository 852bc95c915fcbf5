package bench

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
)

// column is one figure of a table of runs.
type column struct {
	name string
	of   func(Result) float64
	form string
}

var columns = []column{
	{"runs", nil, "%.0f"},
	{"L", func(r Result) float64 { return r.L }, "%.0f"},
	{"appends/s", func(r Result) float64 { return r.AppendsPerS }, "%.0f"},
	{"x L", func(r Result) float64 { return r.Ratio }, "%.2f"},
	{"CPU us", func(r Result) float64 { return r.AppendCPU }, "%.1f"},
	{"in checks", func(r Result) float64 { return r.AppendCPU / r.CheckCPU }, "%.2f"},
	{"others %", func(r Result) float64 { return 100 * r.Others }, "%.0f"},
	{"p50 ms", func(r Result) float64 { return r.P50 }, "%.1f"},
	{"p99 ms", func(r Result) float64 { return r.P99 }, "%.1f"},
	{"alone in fsyncs", func(r Result) float64 { return r.LonePerFsync }, "%.1f"},
	{"proofs/s", func(r Result) float64 { return r.InclusionPerS }, "%.0f"},
	{"B/entry", func(r Result) float64 { return r.BytesPerEntry }, "%.0f"},
	{"MiB", func(r Result) float64 { return r.RSS }, "%.0f"},
	{"start ms", func(r Result) float64 { return r.Start }, "%.0f"},
	{"entries before", func(r Result) float64 { return float64(r.LogBefore) }, "%.0f"},
	{"index share", func(r Result) float64 { return r.IndexShare }, "%.2f"},
}

// Table reads lines of a name, a space and a Result in JSON, and writes a table in
// Markdown with the median of each figure by name, in the order of first mention.
func Table(r io.Reader, w io.Writer) error {
	var names []string
	runs := map[string][]Result{}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		name, rest, ok := strings.Cut(lines.Text(), " ")
		if !ok {
			return fmt.Errorf("%q is not a name and a result", lines.Text())
		}
		var res Result
		if err := json.Unmarshal([]byte(rest), &res); err != nil {
			return fmt.Errorf("result of %s: %w", name, err)
		}
		if _, known := runs[name]; !known {
			names = append(names, name)
		}
		runs[name] = append(runs[name], res)
	}
	if err := lines.Err(); err != nil {
		return err
	}
	head, rule := "| |", "|---|"
	for _, c := range columns {
		head, rule = head+" "+c.name+" |", rule+"---|"
	}
	if _, err := fmt.Fprintf(w, "%s\n%s\n", head, rule); err != nil {
		return err
	}
	for _, name := range names {
		row := "| " + name + " |"
		for _, c := range columns {
			v := float64(len(runs[name]))
			if c.of != nil {
				v = median(runs[name], c.of)
			}
			row += " " + fmt.Sprintf(c.form, v) + " |"
		}
		if _, err := fmt.Fprintln(w, row); err != nil {
			return err
		}
	}
	return nil
}

func median(rs []Result, of func(Result) float64) float64 {
	vs := make([]float64, len(rs))
	for i, r := range rs {
		vs[i] = of(r)
	}
	slices.Sort(vs)
	return (vs[(len(vs)-1)/2] + vs[len(vs)/2]) / 2
}
