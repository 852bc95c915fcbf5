package gs1

import "testing"

func TestKnown(t *testing.T) {
	for in, want := range map[string]string{
		"urn:epc:id:sgtin:4012345.011111.9876":                                      "https://id.gs1.org/01/04012345111118/21/9876",
		"https://id.gs1.de/01/04012345999990/21/XYZ-1234":                           "https://id.gs1.org/01/04012345999990/21/XYZ-1234",
		"urn:epc:id:bic:CSQU3054383":                                                "urn:epc:id:bic:CSQU3054383",
		"https://x.example/gtin/9506000134352/lot/A/ser/b?k=AAAAAAAAAAAAAAAAAAAAAA": "https://id.gs1.org/01/09506000134352/21/b",
		"urn:epc:id:sgln:0614141.07346.1234":                                        "https://id.gs1.org/414/0614141073467/254/1234",
		"urn:epc:id:grai:4012345.55555.987":                                         "https://id.gs1.org/8003/04012345555554987",
		"]d2010950600013435221A/B\x1d10LL":                                          "https://id.gs1.org/01/09506000134352/21/A%2FB",
		"(01)09506000134352(21)A":                                                   "https://id.gs1.org/01/09506000134352/21/A",
	} {
		sc, err := Scan(in)
		if err != nil || sc.ID.URI() != want {
			t.Errorf("%s: %v %v", in, sc.ID, err)
		}
	}
}
