package witness

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"fabtrail.dev/fabtrail/ledger/checkpoint"
)

// maxLogList bounds a log list, in bytes.
const maxLogList = 8 << 20

// ErrLogList is wrapped by all errors of ParseLogList.
var ErrLogList = errors.New("malformed log list")

// ParseLogList reads a list of logs as the public witness network publishes them
// (witness-network.org, "log-list format"; C2SP has no specification of its own):
//
//	logs/v0
//
//	vkey <vkey>
//	origin <origin>|none          optional; the vkey's name unless given
//	bastion <url>|none            optional; not used here
//	qpd <number>                  add-checkpoint requests a day, above 0
//	contact <text>
//
// The header is the first line; each log starts with its vkey line; blank lines
// and lines that start with # are left out. A keyword that is unknown, or stands
// twice in one log, is an error: a list that is misread would have the witness
// refuse a log, or trust another key.
func ParseLogList(b []byte) ([]Log, error) {
	if len(b) > maxLogList {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrLogList, maxLogList)
	}
	var p logListParser
	for i, line := range strings.Split(string(b), "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		if err := p.line(line); err != nil {
			return nil, fmt.Errorf("%w: line %d: %w", ErrLogList, i+1, err)
		}
	}
	if err := p.end(); err != nil {
		return nil, fmt.Errorf("%w: at the end: %w", ErrLogList, err)
	}
	return p.logs, nil
}

type logListParser struct {
	header bool
	logs   []Log
	seen   map[string]bool // keywords of the log at hand; nil before the first
	keys   map[string]bool
}

func (p *logListParser) line(line string) error {
	if strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return errors.New("control character")
	}
	if !p.header {
		p.header = line == "logs/v0"
		if !p.header {
			return fmt.Errorf("%.40q where the header logs/v0 belongs", line)
		}
		return nil
	}
	word, value, ok := strings.Cut(line, " ")
	if value = strings.TrimSpace(value); !ok || value == "" {
		return fmt.Errorf("%.40q is not a keyword and a value", line)
	}
	if word == "vkey" {
		return p.begin(value)
	}
	if p.seen == nil {
		return fmt.Errorf("%.40q before the first vkey line", word)
	}
	if p.seen[word] {
		return fmt.Errorf("%.40q stands twice in one log", word)
	}
	p.seen[word] = true
	log := &p.logs[len(p.logs)-1]
	switch word {
	case "origin":
		if value != "none" {
			log.Origin = value
		}
	case "qpd":
		n, err := strconv.ParseFloat(value, 64)
		if err != nil || !(n > 0 && n <= 1e9) {
			return fmt.Errorf("qpd %.40q is not a number of requests a day", value)
		}
		log.PerDay = n
	case "bastion", "contact":
	default:
		return fmt.Errorf("unknown keyword %.40q", word)
	}
	return nil
}

// begin starts a log.
func (p *logListParser) begin(vkey string) error {
	if err := p.end(); err != nil {
		return err
	}
	k, err := checkpoint.ParseVKey(vkey)
	if err != nil {
		return err
	}
	if k.Type != checkpoint.TypeLog {
		return fmt.Errorf("key of %s has type %#02x, want 0x01", k.Name, k.Type)
	}
	if p.keys[string(k.Key)] {
		return fmt.Errorf("the key of %s is listed twice", k.Name)
	}
	if p.keys == nil {
		p.keys = map[string]bool{}
	}
	p.keys[string(k.Key)], p.seen = true, map[string]bool{}
	p.logs = append(p.logs, Log{Origin: k.Name, Keys: []checkpoint.VKey{k}})
	return nil
}

// end checks that the log at hand is whole.
func (p *logListParser) end() error {
	switch {
	case !p.header:
		return errors.New("no header logs/v0")
	case p.seen != nil && (!p.seen["qpd"] || !p.seen["contact"]):
		return fmt.Errorf("log %s lacks its qpd or contact line", p.logs[len(p.logs)-1].Origin)
	}
	return nil
}
