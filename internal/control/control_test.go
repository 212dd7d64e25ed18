package control_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/outrigger-proxy/outrigger/internal/control"
)

func TestRunsInOrderUntilStopped(t *testing.T) {
	l := control.New()
	var got []int
	l.Post(func() {
		got = append(got, 1)
		l.Post(func() { got = append(got, 3) })
	})
	l.Post(func() { got = append(got, 2) })
	ended := make(chan struct{})
	go func() { l.Run(); close(ended) }() // ends with Stop
	if !l.Do(func() { got = append(got, 4) }) {
		t.Error("Do did not run")
	}
	l.Stop()
	<-ended
	slices.Sort(got[2:]) // 3 was posted by the loop while 4 was posted from here
	if !slices.Equal(got, []int{1, 2, 3, 4}) {
		t.Errorf("ran %v", got)
	}
	if l.Do(func() { t.Error("ran after Stop") }) || l.Post(func() {}) {
		t.Error("taken after Stop")
	}
}

func TestAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := control.New()
		start, ran := time.Now(), time.Duration(0)
		l.After(time.Minute, func() { ran = time.Since(start); l.Stop() })
		l.After(time.Second, func() { t.Error("a stopped timer ran") }).Stop()
		l.Run()
		if ran != time.Minute {
			t.Errorf("ran after %v", ran)
		}
	})
}
