package lb

import "encoding/binary"

// murmur is MurmurHash2 of 64 bits (MurmurHash64A) with the seed of the C++ standard library, as Envoy's MURMUR_HASH_2.
func murmur(b []byte) uint64 {
	const m, seed = 0xc6a4a7935bd1e995, 0xc70f6907
	h := seed ^ uint64(len(b))*m
	for ; len(b) >= 8; b = b[8:] {
		k := binary.LittleEndian.Uint64(b) * m
		h = (h ^ (k^k>>47)*m) * m
	}
	if len(b) > 0 {
		var last [8]byte
		copy(last[:], b)
		h = (h ^ binary.LittleEndian.Uint64(last[:])) * m
	}
	h = (h ^ h>>47) * m
	return h ^ h>>47
}
