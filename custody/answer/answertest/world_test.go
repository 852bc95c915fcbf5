package answertest

import "testing"

func TestStory(t *testing.T) {
	w := NewWorld(NewLog(t))
	maker, carrier, inst := w.Parties["maker"], w.Parties["carrier"], w.Parties["installer"]
	w.Block("L1", 100)
	a := w.Commission("A1", "L1")
	refs := w.CommissionMany("L1", "B1", "B2", "B3")
	w.Assemble(maker, a, refs[2])
	w.Register(a)
	carton := w.Pack(maker, 1, 1, a, refs[0], refs[1])
	pallet := w.Pack(maker, 2, 2, carton)
	w.HandOver(maker, carrier, pallet)
	w.HandOver(carrier, inst, pallet)
	w.Unpack(inst, pallet, carton)
	w.Unpack(inst, carton, a)
	w.Install(inst, a)
	t.Log(w.Last.Word(), len(w.Entries))
	if w.Last.Word() != "applied" {
		t.Errorf("install: %s", w.Last.Word())
	}
}
