package buffer

import "testing"

func TestPool(t *testing.T) {
	p := Pool{Size: 16}
	a, b := p.Get(), p.Get()
	if len(a) != 16 || p.Lent() != 2 || p.Free() != 0 {
		t.Error(len(a), p.Lent(), p.Free())
	}
	p.Put(a[:3])
	if c := p.Get(); &c[0] != &a[0] || len(c) != 16 {
		t.Error("the slab given back is lent again, whole")
	}
	p.Put(b)
	if p.Lent() != 1 || p.Free() != 1 {
		t.Error(p.Lent(), p.Free())
	}
	if n := testing.AllocsPerRun(100, func() { p.Put(p.Get()) }); n != 0 {
		t.Error(n)
	}
}

func TestPutOfAPartPanics(t *testing.T) {
	p := Pool{Size: 16}
	defer func() {
		if recover() == nil {
			t.Error("a part of a slab was taken back")
		}
	}()
	p.Put(p.Get()[1:])
}

func TestTrim(t *testing.T) {
	p := Pool{Size: 16}
	var out [][]byte
	for range 8 {
		out = append(out, p.Get())
	}
	for _, b := range out {
		p.Put(b)
	}
	p.Trim() // all eight were needed since the last time
	if p.Free() != 8 {
		t.Error(p.Free())
	}
	p.Put(p.Get())
	for _, want := range []int{4, 2, 1, 0, 0} {
		p.Trim()
		if p.Free() != want {
			t.Errorf("%d, want %d", p.Free(), want)
		}
	}
}
