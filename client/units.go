package client

import (
	"context"
	"errors"
	"slices"

	"github.com/go-json-experiment/json"

	"fabtrail.dev/fabtrail/custody/answer"
	"fabtrail.dev/fabtrail/internal/problem"
)

// Code is what is on a unit: anything that a scanner yields, and the pedigree key
// if it is not in there.
type Code struct {
	Text, Pedigree string
}

// UnitsQuery is the body of POST /v1/units:check.
type UnitsQuery struct {
	Units []UnitQuery `json:"units"`
}

// UnitQuery asks about one unit of UnitsQuery.
type UnitQuery struct {
	URI string `json:"uri"`
	Key string `json:"key,omitzero"` // pedigree key
}

// VerifyUnits is VerifyUnit for many units, answer.MaxUnits in one call, in which
// what they share is sent and verified once. Reports stand in the order of codes.
// An error means that a code is no unit's identifier, whatever the ledger says.
func (v *Verifier) VerifyUnits(ctx context.Context, codes []Code) ([]*Report, error) {
	queries := make([]UnitQuery, len(codes))
	for i, c := range codes {
		uri, key, err := scan(c)
		if err != nil {
			return nil, &CodeError{i, c.Text, err}
		}
		queries[i] = UnitQuery{uri, key}
	}
	var out []*Report
	for part := range slices.Chunk(queries, answer.MaxUnits) {
		rs, err := v.many(ctx, part, func(n int) {
			if v.Progress != nil {
				v.Progress(len(out) + n)
			}
		})
		if err != nil {
			return nil, err
		}
		out = append(out, rs...)
	}
	return out, nil
}

// CodeError says which of several codes is no unit's identifier.
type CodeError struct {
	Index int // 0 for the first
	Code  string
	Err   error
}

func (e *CodeError) Error() string { return e.Code + ": " + e.Err.Error() }

// Unwrap returns what is wrong with it.
func (e *CodeError) Unwrap() error { return e.Err }

// many verifies one call's units. Units whose part of the answer does not hold, and
// all of them when no part can be told from another, are asked for by themselves:
// what is wrong with one must not hide the others.
func (v *Verifier) many(ctx context.Context, queries []UnitQuery, done func(n int)) ([]*Report, error) {
	rs := v.together(ctx, queries)
	for i, q := range queries {
		if rs[i] == nil {
			r, err := v.VerifyUnit(ctx, q.URI, q.Key)
			if err != nil {
				return nil, err
			}
			rs[i] = r
		}
		done(i + 1)
	}
	return rs, nil
}

// together fetches and verifies the units of one answer.
func (v *Verifier) together(ctx context.Context, queries []UnitQuery) []*Report {
	b, err := v.Remote.unitsAnswer(ctx, queries, v.parts().Have())
	if err != nil {
		if p := problem.As(err); p != nil && p.Type == "too_large" && len(queries) > 1 {
			half := len(queries) / 2
			return append(v.together(ctx, queries[:half]), v.together(ctx, queries[half:])...)
		}
		rs := make([]*Report, len(queries))
		for i, q := range queries {
			rs[i] = (&Report{URI: q.URI}).broken(CheckAnswer, "%v", err)
		}
		return rs
	}
	return v.judgeMany(ctx, queries, b)
}

// judgeMany verifies the units of one answer; a report that is nil is to be had from
// an answer about that unit alone.
func (v *Verifier) judgeMany(ctx context.Context, queries []UnitQuery, b []byte) []*Report {
	rs := make([]*Report, len(queries))
	m, err := answer.ParseMany(b)
	if err != nil || len(m.Units) != len(queries) {
		return rs
	}
	base := &Report{Checks: []Check{}}
	var seen *Seen
	var src *answer.Source
	if m.Checkpoint != "" {
		var again retry
		if seen, again = v.checkpoint(ctx, base, []byte(m.Checkpoint)); seen == nil {
			return v.all(rs, queries, base, again)
		}
		if src, err = answer.OpenMany(m, seen.Checkpoint, v.parts()); err != nil {
			return rs
		}
		if !v.commitment(base, seen, src) {
			return v.all(rs, queries, base, retryNo)
		}
	}
	for i, u := range m.Units {
		if u.URI != queries[i].URI || u.Form != answer.Status && src == nil {
			continue
		}
		r := base.copyFor(u.URI)
		r.ServerWord = u.Word
		if u.Form == answer.Status {
			r = &Report{URI: u.URI, Checks: []Check{}, ServerWord: u.Word}
			if rs[i] = r.statusOnly(); queries[i].Key != "" {
				r.keyUnused()
			}
			continue
		}
		if v.unit(r, seen, src); r.History == nil {
			continue // its part is at fault
		}
		r.checkPedigree(queries[i].Key)
		rs[i] = r
	}
	return rs
}

// all gives every unit the report of what they share, unless asking again may help.
func (v *Verifier) all(rs []*Report, queries []UnitQuery, base *Report, again retry) []*Report {
	if again != retryNo {
		return rs
	}
	for i, q := range queries {
		rs[i] = base.copyFor(q.URI)
	}
	return rs
}

// copyFor starts a unit's report with what was found out about the checkpoint.
func (r *Report) copyFor(uri string) *Report {
	c := *r
	c.URI, c.Checks, c.Reasons = uri, slices.Clone(r.Checks), slices.Clone(r.Reasons)
	return &c
}

// unitsAnswer fetches one answer about many units.
func (r *Remote) unitsAnswer(ctx context.Context, queries []UnitQuery, have string) ([]byte, error) {
	body, err := json.Marshal(UnitsQuery{queries})
	if err != nil {
		return nil, err
	}
	q := request{method: "POST", path: "/v1/units:check", mediaType: "application/json", body: body, limit: answer.MaxSize, header: map[string]string{}}
	if have != "" {
		q.header[answer.HaveHeader] = have
	}
	rep, err := r.do(ctx, q)
	if err == nil && len(rep.body) == 0 {
		err = errors.New("the answer is empty")
	}
	return rep.body, err
}
