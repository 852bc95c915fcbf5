// Package demo plays the whole main job on one machine: a ledger with its charter,
// three witnesses that talk HTTP, some thirty parties with keys and tokens of
// their own, and some thousand devices on their way from the chip fab to the
// installer. All play goes through the public HTTP interface.
//
// In between, incidents happen that are labelled beforehand (package labels). At
// the end units are verified and findings read like anybody could, and what they
// say is held against the labels: no more, and no fewer.
package demo

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"fabtrail.dev/fabtrail/api"
	"fabtrail.dev/fabtrail/client"
	"fabtrail.dev/fabtrail/cmd/fabtraild/internal/demo/labels"
	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/internal/cli"
	"fabtrail.dev/fabtrail/internal/node"
	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/ledger/entry"
	"fabtrail.dev/fabtrail/ledger/trillian"
	"fabtrail.dev/fabtrail/witness"
)

// Origin is the name of the demo's log.
const Origin = "demo.fabtrail.example/hardware"

// Config says what to play.
type Config struct {
	Data     string // data folder; "" makes a temporary one, which Close removes
	Seed     uint64
	Devices  int    // at least MinDevices
	Listen   string // address of the ledger; "" is a free port on loopback
	Progress io.Writer
	// Cluster, if set, keeps the ledger's entries; without a tree one is made.
	Cluster *trillian.Config
}

// ErrPlayed says that the folder holds a ledger already.
var ErrPlayed = errors.New("there is a ledger in this folder already")

// Demo is a played demo that still runs.
type Demo struct {
	Result Result
	*demo
}

// demo is the state of the play.
type demo struct {
	cfg    Config
	ctx    context.Context
	folder node.Folder
	plan   *plan
	labels *labels.Set
	clock  clock
	begin  time.Time
	start  time.Time
	bar    *cli.Bar

	parties  map[string]*party
	ledgerID entry.Hash
	trust    *client.Trust
	url      string
	node     *node.Node
	closers  []func() error // in the order of starting

	chips, radios, sensors, devices []*thing
	lots                            []lot
	market                          [][]*thing // devices by region
	ship                            []*shipment
	firmware                        entry.Hash
	loads                           int
	kept                            *act // the installation that will be sent again
	keptPrev                        entry.Hash

	mu       sync.Mutex
	seen     labels.Seen
	openings []opening
	count    atomic.Int64 // statements recorded
}

// Run plays the demo and leaves it serving; Close ends it. The Result says
// whether all was as labelled.
func Run(ctx context.Context, cfg Config) (*Demo, error) {
	if cfg.Devices < MinDevices {
		return nil, cli.Usagef("--devices %d: the incidents need at least %d", cfg.Devices, MinDevices)
	}
	if cfg.Progress == nil {
		cfg.Progress = io.Discard
	}
	if cfg.Listen == "" {
		cfg.Listen = "127.0.0.1:0"
	}
	d := &Demo{demo: &demo{cfg: cfg, ctx: ctx, start: time.Now(), parties: map[string]*party{}}}
	d.plan = newPlan(cfg.Seed, cfg.Devices)
	d.labels = d.plan.labels()
	d.begin = d.start.Add(-story)
	d.clock.set(d.begin)
	d.bar = cli.NewBar(cfg.Progress, int64(6*cfg.Devices+cfg.Devices/2+150), "making keys")
	err := d.run()
	d.bar.Done()
	if err == nil {
		d.Result, err = d.conclude()
	}
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

func (d *demo) run() error {
	for _, step := range []func() error{d.prepare, d.makeThings, d.files, d.openLedger, d.play, d.settle} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) progress(title string) { d.bar.Title(fmt.Sprintf("%-40s", title)) }

// Close stops everything in the right order. A temporary folder goes.
func (d *demo) Close() error {
	var errs []error
	for i := len(d.closers) - 1; i >= 0; i-- {
		errs = append(errs, d.closers[i]())
	}
	d.closers = nil
	return errors.Join(errs...)
}

func (d *demo) closeLast(fn func() error) { d.closers = append(d.closers, fn) }

// prepare makes the folder, everybody's keys, and the ledger's charter.
func (d *demo) prepare() error {
	dir := d.cfg.Data
	if dir == "" {
		tmp, err := os.MkdirTemp("", "fabtrail-demo-")
		if err != nil {
			return err
		}
		dir = tmp
		d.closeLast(func() error { return os.RemoveAll(tmp) })
	} else if _, err := os.Stat(filepath.Join(dir, "charter.dsse.json")); err == nil {
		return ErrPlayed
	}
	d.folder = node.Folder(dir)
	people := make([]*party, len(cast))
	for i, r := range cast {
		people[i] = &party{role: r, uri: partyURI(r.slug), site: siteURI(r.slug)}
	}
	if err := parallel(people, 2, func(p *party) (err error) {
		p.key, err = custody.GenerateKey(p.alg)
		return err
	}); err != nil {
		return err
	}
	var signers []node.AuthoritySigner
	for i, p := range people {
		d.parties[p.slug] = p
		if i < authorities {
			signers = append(signers, node.AuthoritySigner{Party: p.uri, Key: p.key})
		}
	}
	err := d.folder.Init(node.InitConfig{Origin: Origin, Operator: operatorURI, Authorities: signers, Threshold: 2, Created: d.begin})
	if errors.Is(err, node.ErrExists) {
		return ErrPlayed
	}
	if err != nil {
		return err
	}
	charter, _, err := d.folder.Charter()
	if err != nil {
		return err
	}
	d.ledgerID = charter.ID
	return nil
}

func (d *demo) party(slug string) *party {
	p := d.parties[slug]
	if p == nil {
		panic("demo: nobody is called " + slug)
	}
	return p
}

// makeThings makes what will be: components, devices with keys, cartons.
func (d *demo) makeThings() error {
	p := d.plan
	if _, err := rand.Read(d.firmware[:]); err != nil {
		return err
	}
	make_ := func(pr product, lots int, name func(int) string) []*thing {
		things := make([]*thing, p.n)
		for l := range lots {
			d.lots = append(d.lots, lot{product: pr, name: name(l)})
		}
		for i := range things {
			things[i] = newThing(pr.unit(i + 1))
			things[i].pedigree = newPedigree()
			l := &d.lots[len(d.lots)-lots+p.lotOf(i, lots)]
			l.units = append(l.units, things[i])
		}
		return things
	}
	d.chips = make_(chip, p.chipLots, func(l int) string { return fmt.Sprintf("LC7-25%02d", l+1) })
	d.radios = make_(radio, p.radioLots, func(l int) string { return fmt.Sprintf("RM2-25%02d", l+1) })
	d.sensors = make_(sensor, p.sensorLots, sensorLot)
	d.market = make([][]*thing, len(regions))
	for i := range p.devices {
		t := newThing(p.devices[i].uri())
		t.pedigree = newPedigree()
		d.devices = append(d.devices, t)
		d.market[p.devices[i].region] = append(d.market[p.devices[i].region], t)
	}
	for region := range regions {
		d.ship = append(d.ship, d.newShipment(region))
	}
	return parallel(d.devices, 2, func(t *thing) error {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		t.key = crypto.Signer(key)
		return err
	})
}

func newPedigree() []byte {
	key := make([]byte, custody.PedigreeKeySize)
	if _, err := rand.Read(key); err != nil {
		panic("demo: no randomness: " + err.Error())
	}
	return key
}

// shipment is how a market's devices are packed.
type shipment struct {
	cartons, pallets   []*thing
	inCarton, onPallet [][]*thing
	container          *thing
}

func (d *demo) newShipment(region int) *shipment {
	p, s := d.plan, &shipment{container: newThing(freight(region))}
	for c := range p.cartons(region) {
		carton := newThing(p.cartonURI(region, c))
		s.cartons, s.inCarton = append(s.cartons, carton), append(s.inCarton, nil)
		if c%p.pallet == 0 {
			s.pallets, s.onPallet = append(s.pallets, newThing(p.palletURI(region, c/p.pallet))), append(s.onPallet, nil)
		}
		last := len(s.pallets) - 1
		s.onPallet[last] = append(s.onPallet[last], carton)
	}
	for i := range p.devices {
		if pd := &p.devices[i]; pd.region == region {
			s.inCarton[pd.carton] = append(s.inCarton[pd.carton], d.devices[i])
		}
	}
	return s
}

// outer is what the carriers take over.
func (s *shipment) outer(sea bool) []*thing {
	if sea {
		return []*thing{s.container}
	}
	return s.pallets
}

// newLoad names the next carton or pallet of components.
func (d *demo) newLoad() *thing {
	d.loads++
	return newThing(sscc(100_000 + d.loads))
}

// witnesses of the ledger; the last one verifies the index.
var witnessNames = []string{"north.witness.example", "south.witness.example", "index.witness.example"}

// cluster is where the ledger's entries go, nil for the embedded engine.
func (d *demo) cluster() (*trillian.Config, error) {
	if d.cfg.Cluster == nil {
		return nil, nil
	}
	c := *d.cfg.Cluster
	c.Origin = Origin
	var err error
	c.Tree, err = trillian.Init(d.ctx, c)
	return &c, err
}

// openLedger starts witnesses and ledger, each at an address of its own.
func (d *demo) openLedger() error {
	d.progress("starting the ledger and three witnesses")
	log, err := d.logger()
	if err != nil {
		return err
	}
	vkey, err := node.ReadVKey(filepath.Join(d.folder.Trust(), "log.vkey"))
	if err != nil {
		return err
	}
	var follower *node.Follower
	following := make(chan struct{}) // closed once follower is set
	var cosigners []node.Cosigner
	for i, name := range witnessNames {
		cfg := node.WitnessConfig{Dir: d.path(witnessDir(i)), Name: name, Log: log.With("witness", name),
			Logs: []witness.Log{{Origin: Origin, Keys: []checkpoint.VKey{vkey}}}}
		index := i == len(witnessNames)-1
		if index {
			cfg.Check = func(ctx context.Context, cp checkpoint.Checkpoint, note checkpoint.Note) error {
				select { // the charter is cosigned as soon as the ledger serves
				case <-following:
					return follower.Check(ctx, cp, note)
				case <-ctx.Done():
					return fmt.Errorf("%w: the ledger does not serve yet", witness.ErrUnavailable)
				}
			}
		}
		w, err := node.OpenWitness(cfg)
		if err != nil {
			return err
		}
		d.closeLast(w.Close)
		addr, err := d.serve(func(ctx context.Context, ready func(string)) error { return w.Serve(ctx, "127.0.0.1:0", nil, ready) })
		if err != nil {
			return err
		}
		cosigners = append(cosigners, node.Cosigner{URL: "http://" + addr, VKey: w.VKey(), Index: index})
	}
	if err := d.folder.SetPolicy(cosigners, len(cosigners), true, false); err != nil {
		return err
	}
	cluster, err := d.cluster()
	if err != nil {
		return err
	}
	if d.node, err = node.Open(d.ctx, node.Config{Folder: d.folder, Clock: d.clock.now, Log: log, Manual: true, Cluster: cluster,
		Limits: api.Limits{UploadRate: api.Rate{PerSecond: 200, Burst: 2000}}}); err != nil {
		return err
	}
	d.closeLast(d.node.Close)
	addr, err := d.serve(func(ctx context.Context, ready func(string)) error {
		return d.node.Serve(ctx, d.cfg.Listen, nil, ready)
	})
	if err != nil {
		return err
	}
	d.url = "http://" + addr
	if follower, err = node.NewFollower(d.url, d.path("tokens", "auditor.token"), filepath.Join(d.folder.Trust(), client.CharterFile)); err != nil {
		return err
	}
	close(following)
	if d.trust, err = client.LoadTrust(os.DirFS(d.folder.Trust())); err != nil {
		return err
	}
	if err := d.startScript(cosigners); err != nil {
		return err
	}
	return d.connect()
}

// serve runs a server until Close, and returns its address.
func (d *demo) serve(run func(context.Context, func(string)) error) (string, error) {
	ctx, stop := context.WithCancel(context.WithoutCancel(d.ctx))
	ready, done := make(chan string, 1), make(chan error, 1)
	go func() { done <- run(ctx, func(addr string) { ready <- addr }) }()
	select {
	case addr := <-ready:
		d.closeLast(func() error {
			stop()
			return <-done
		})
		return addr, nil
	case err := <-done:
		stop()
		return "", err
	}
}

// connect gives every party its way to the ledger.
func (d *demo) connect() error {
	transport := &http.Transport{MaxIdleConnsPerHost: 16, IdleConnTimeout: time.Minute}
	d.closeLast(func() error {
		transport.CloseIdleConnections()
		return nil
	})
	for _, p := range d.parties {
		token, err := readLine(d.path("tokens", p.slug+".token"))
		if err != nil {
			return err
		}
		remote, err := client.NewRemote(d.url, client.Options{Token: token, Transport: transport})
		if err != nil {
			return err
		}
		p.submit = &client.Submitter{Remote: remote, Trust: d.trust}
	}
	return nil
}

// settle lets the story's clock arrive at now, and waits until every finding is
// published and the log's last word is fresh.
func (d *demo) settle() error {
	d.progress("drawing findings")
	ctx, cancel := context.WithTimeout(d.ctx, time.Minute)
	defer cancel()
	if err := d.node.CaughtUp(ctx); err != nil {
		return err
	}
	d.clock.goLive()
	if err := d.node.Tick(ctx); err != nil {
		return err
	}
	if err := d.node.Ledger().Wait(ctx, d.node.Ledger().Signed().Size()-1); err != nil {
		return err
	}
	if err := d.node.CaughtUp(ctx); err != nil {
		return err
	}
	return d.writeOpenings()
}

// Wait serves until ctx ends, keeping the checkpoint fresh.
func (d *demo) Wait(ctx context.Context) error {
	tick := time.NewTicker(15 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-d.node.Failed():
			return err
		case <-tick.C:
			if err := d.node.Tick(ctx); err != nil && ctx.Err() == nil {
				return err
			}
		}
	}
}

// logger writes what ledger and witnesses say into a file.
func (d *demo) logger() (*slog.Logger, error) {
	f, err := os.OpenFile(d.path("log.txt"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	d.closeLast(f.Close)
	return slog.New(slog.NewTextHandler(f, nil)), nil
}
