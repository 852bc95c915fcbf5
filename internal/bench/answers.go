package bench

import (
	"context"
	"fmt"
	"os"
	"time"

	"fabtrail.dev/fabtrail/api"
	"fabtrail.dev/fabtrail/client"
	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/custody/answer"
	"fabtrail.dev/fabtrail/internal/node"
	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// lifeUnits is how many units have ten statements: each is asked for once, as at
// goods-in, half of them by a client that knows the parties.
const lifeUnits = 400

// answers measures whole unit answers: how they are made, and verified.
func (b *bench) answers(n *node.Node, lives [][]signed) error {
	b.cfg.Progress("unit answers", 0, 0)
	var units []string
	for i := range lives {
		units = append(units, b.world.unit(firstLife+uint64(i)))
	}
	for k := range lives[0] { // the first statement of all, the second of all
		lines := make([][]byte, len(lives))
		for i := range lives {
			lines[i] = lives[i][k].envelope
		}
		if err := b.submit(n, lines...); err != nil {
			return err
		}
	}
	if err := n.Ledger().Settle(b.ctx); err != nil { // compaction is not what is measured
		return err
	}
	half := len(units) / 2
	plain, err := b.ask(n, units[:half], "")
	if err != nil {
		return err
	}
	parts, err := learn(n, units[:makers])
	if err != nil {
		return err
	}
	known, err := b.ask(n, units[half:], parts.Have())
	if err != nil {
		return err
	}
	if known.Entries >= plain.Entries {
		return fmt.Errorf("an answer to a client who knows the parties holds %d entries, to another %d", known.Entries, plain.Entries)
	}
	b.res.Answer, b.res.AnswerKnown, b.res.AnswersPerS = plain, known, plain.PerCPU
	return b.verify(n, units[0], plain.Checks)
}

func query(unit, have string) api.UnitQuery { return api.UnitQuery{URI: unit, Have: have} }

// ask measures answers about units that nobody asked for before, one at a time. Those
// of the first ones are not counted: they bring the parties into the caches.
func (b *bench) ask(n *node.Node, units []string, have string) (Answer, error) {
	var times []time.Duration
	var last []byte
	before := cpu()
	for i, u := range units {
		if i == makers {
			before = cpu()
		}
		start := time.Now()
		body, err := n.Unit(b.ctx, admin, query(u, have))
		if err != nil {
			return Answer{}, err
		}
		if last = body.JSON; i >= makers {
			times = append(times, time.Since(start))
		}
	}
	used := cpu() - before
	a, err := answer.Parse(last)
	if err != nil {
		return Answer{}, err
	}
	out := Answer{P50: ms(quantile(times, 0.5)), PerCPU: perCPU(len(times), used), Bytes: len(last), Topics: len(a.Topics), Entries: len(a.Entries)}
	for _, e := range a.Entries {
		c, err := entry.ParseCargo(e.Cargo)
		if err != nil {
			return out, err
		}
		env, err := entry.ParseEnvelope(c.Envelope)
		if err != nil {
			return out, err
		}
		out.Checks += len(env.Signatures)
	}
	return out, nil
}

// learn verifies answers and keeps what units share.
func learn(n *node.Node, units []string) (*answer.Parts, error) {
	parts := answer.NewParts(1000)
	for _, u := range units {
		body, err := n.Unit(context.Background(), admin, query(u, ""))
		if err != nil {
			return nil, err
		}
		a, err := answer.Parse(body.JSON)
		if err != nil {
			return nil, err
		}
		note, err := checkpoint.ParseNote([]byte(a.Checkpoint))
		if err != nil {
			return nil, err
		}
		cp, err := checkpoint.ParseCheckpoint(note.Text)
		if err != nil {
			return nil, err
		}
		if _, err := answer.Open(a, cp, parts); err != nil {
			return nil, err
		}
	}
	return parts, nil
}

func (b *bench) trust() (*client.Trust, error) { return client.LoadTrust(os.DirFS(b.folder.Trust())) }

// verify measures a client's whole verification, from bytes to verdict, of an
// answer with so many signatures beside the checkpoint's.
func (b *bench) verify(n *node.Node, unit string, signatures int) error {
	trust, err := b.trust()
	if err != nil {
		return err
	}
	body, err := n.Unit(b.ctx, admin, query(unit, ""))
	if err != nil {
		return err
	}
	v := client.Verifier{Trust: trust}
	const rounds = 100
	var used time.Duration
	for round := range 1 + rounds {
		before := cpu()
		r := v.VerifyAnswer(b.ctx, unit, body.JSON)
		if round > 0 {
			used += cpu() - before
		}
		if r.Word != custody.VerifiedNote { // no witnesses, so no better word
			return fmt.Errorf("the verdict on a unit of the bench is %s: %v", r.Word, r.Checks)
		}
	}
	b.res.VerifyChecks = us(used) / rounds / (float64(signatures+1) * b.res.CheckCPU)
	return nil
}
