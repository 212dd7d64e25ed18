//go:build race

package http2

// raceDetector says whether the race detector is on.
const raceDetector = true
