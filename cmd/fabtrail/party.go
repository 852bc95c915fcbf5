package main

import (
	"strings"

	"github.com/spf13/cobra"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/internal/cli"
)

func partyCmd() *cobra.Command {
	c := &cobra.Command{
		Use:   "party",
		Short: "Sign statements about parties and their keys",
		Long: `Parties, their roles, sites and keys are statements in the log like any other. An
enrolment is signed by the authorities, and by every key that it enrols.`,
		Example: `  fabtrail party enrol https://id.gs1.org/417/9506000140001 --trust ./trust --name 'Acme Fab' --role maker \
    --key acme.pem --authority authority.pem --out enrol-acme.json`,
	}
	c.AddCommand(partyEnrolCmd(), partyRevokeCmd())
	return c
}

func partyEnrolCmd() *cobra.Command {
	var f signFlags
	var name string
	var roles, sites, authorities []string
	c := &cobra.Command{
		Use:   "enrol PARTY",
		Short: "Sign the enrolment of a party",
		Example: `  fabtrail party enrol https://id.gs1.org/417/9506000140001 --trust ./trust --name 'Acme Fab' --role maker \
    --site 'https://id.gs1.org/414/9506000140001,TW,geo:24.77,121.01' \
    --key acme.pem --authority authority.pem --out enrol-acme.json`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			t, err := f.trusted()
			if err != nil {
				return err
			}
			body := &custody.Party{LegalName: name, Roles: roles}
			for _, s := range sites {
				parts := strings.SplitN(s, ",", 3)
				if len(parts) < 2 {
					return cli.Usagef("--site %q: want GLN-LINK,COUNTRY[,geo:LAT,LON]", s)
				}
				site := custody.Site{ID: parts[0], Country: parts[1]}
				if len(parts) == 3 {
					site.Geo = parts[2]
				}
				body.Sites = append(body.Sites, site)
			}
			keys, err := readKeys(f.keys)
			if err != nil {
				return err
			}
			for _, k := range keys {
				key, err := custody.NewKey(k.Public())
				if err != nil {
					return err
				}
				body.Keys = append(body.Keys, key.Record())
			}
			payload, err := custody.NewPayload(custody.KindParty, args[0], t.Ledger, nil, body)
			if err != nil {
				return err
			}
			f.keys = append(f.keys, authorities...)
			return f.write(c, payload, "")
		},
	}
	f.add(c, true)
	c.Flags().StringVar(&name, "name", "", "legal name")
	c.Flags().StringSliceVar(&roles, "role", nil, "what it may do; repeatable: "+strings.Join(custody.Roles, ", "))
	c.Flags().StringArrayVar(&sites, "site", nil, "GLN-LINK,COUNTRY[,geo:LAT,LON]; repeatable")
	c.Flags().StringArrayVar(&f.keys, "key", nil, "private key file that is enrolled; repeatable")
	c.Flags().StringArrayVar(&authorities, "authority", nil, "private key file of an authority; repeatable")
	c.Flags().StringVar(&f.out, "out", "-", "file to write; - is standard output")
	_ = c.MarkFlagRequired("name")
	_ = c.MarkFlagRequired("role")
	_ = c.MarkFlagRequired("authority")
	cli.Words(c, "role", custody.Roles...)
	cli.Nothing(c, "name", "site")
	return c
}

func partyRevokeCmd() *cobra.Command {
	var f signFlags
	var keyID, reason string
	c := &cobra.Command{
		Use:   "revoke PARTY",
		Short: "Sign the revocation of a party's key",
		Long:  "Sign the revocation of a key, with that key itself or with the authorities' keys. From its place in the log on, nothing that the key signs is taken.",
		Example: `  fabtrail party revoke https://id.gs1.org/417/9506000140001 --trust ./trust --key-id 3f2a... \
    --key authority.pem --reason compromised --out revoke.json`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			t, err := f.trusted()
			if err != nil {
				return err
			}
			body := &custody.KeyChange{Action: "revoke", Key: custody.Digest{SHA256: keyID}, Reason: reason}
			payload, err := custody.NewPayload(custody.KindKey, args[0], t.Ledger, nil, body)
			if err != nil {
				return err
			}
			return f.write(c, payload, "")
		},
	}
	f.add(c, true)
	c.Flags().StringVar(&keyID, "key-id", "", "ID of the key that ends (hex)")
	c.Flags().StringVar(&reason, "reason", "", "why")
	c.Flags().StringArrayVar(&f.keys, "key", nil, "private key file that signs; repeatable")
	c.Flags().StringVar(&f.out, "out", "-", "file to write; - is standard output")
	_ = c.MarkFlagRequired("key-id")
	cli.Nothing(c, "key-id", "reason")
	_ = c.MarkFlagRequired("key")
	return c
}
