package client

import (
	"context"
	"net/url"
)

// Enrolled asks whether a party is enrolled. It is the server's word, of use for
// planning; the ledger's door decides.
func (r *Remote) Enrolled(ctx context.Context, party string) (bool, error) {
	var p struct {
		URI string `json:"uri"`
	}
	err := r.getJSON(ctx, "/v1/parties?uri="+url.QueryEscape(party), maxProof, &p)
	if err != nil && notFound(err) {
		return false, nil
	}
	return err == nil, err
}
