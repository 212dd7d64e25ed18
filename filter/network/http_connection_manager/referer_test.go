package hcm

import "testing"

func TestReferer(t *testing.T) {
	for referer, want := range map[string]bool{
		"http://a/": true, "https://a": true, "HTTP://a/": true, "http://a:1/x?y": true, "android-app://x/": true, "nonsense": true, "/x": true,
		"http://u:p@a:1/x": false, "http://a/#f": false, "http://a b/": false, "http://a/x y": false, "/x#f": false, "a:b": false, "/a:b": true,
		"http://": false, "x y": false, "http://a/\xe4": false,
	} {
		if got := isReferer(referer); got != want {
			t.Errorf("%q: %v", referer, got)
		}
	}
}

func TestWantsTrailers(t *testing.T) {
	for te, want := range map[string]bool{"trailers": true, "gzip, trailers": true, "gzip": false, "trailers;q=1": false, "": false} {
		if got := wantsTrailers(te); got != want {
			t.Errorf("%q: %v", te, got)
		}
	}
}
