package compressor

import (
	"errors"
	"fmt"
	"io"

	"github.com/andybalholm/brotli"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	brotliv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/compression/brotli/compressor/v3"
	gzipv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/compression/gzip/compressor/v3"
	zstdv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/compression/zstd/compressor/v3"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/outrigger-proxy/outrigger/internal/protofile"
)

// library makes encoders.
type library struct {
	encoding string // in content-encoding
	stat     string // in the names of statistics
	make     func() encoder
}

// newLibrary reads compressor_library.
func newLibrary(p *corev3.TypedExtensionConfig) (*library, error) {
	m, _, err := protofile.Unpack(p.GetTypedConfig())
	if err != nil {
		return nil, unregistered(p)
	}
	var l *library
	switch c := m.(type) {
	case *gzipv3.Gzip:
		l = newGzip(c)
	case *brotliv3.Brotli:
		l = newBrotli(c)
	case *zstdv3.Zstd:
		l, err = newZstd(c)
	default:
		return nil, unregistered(p)
	}
	if err != nil {
		return nil, fmt.Errorf("compressor_library.typed_config.%w", err)
	}
	return l, nil
}

func newGzip(p *gzipv3.Gzip) *library {
	level := gzip.DefaultCompression
	switch l := p.GetCompressionLevel(); {
	case p.GetCompressionStrategy() == gzipv3.Gzip_HUFFMAN_ONLY:
		level = gzip.HuffmanOnly
	case l != gzipv3.Gzip_DEFAULT_COMPRESSION:
		level = int(l) // BEST_SPEED is 1, BEST_COMPRESSION 9
	}
	return &library{"gzip", "gzip", func() encoder {
		w, err := gzip.NewWriterLevel(io.Discard, level)
		if err != nil { // the levels of the message are those of the format
			w = gzip.NewWriter(io.Discard)
		}
		return w
	}}
}

// Envoy's defaults.
const (
	brotliQuality = 3
	brotliWindow  = 18
	zstdLevel     = 3
)

func newBrotli(p *brotliv3.Brotli) *library {
	o := brotli.WriterOptions{Quality: or(p.GetQuality(), brotliQuality), LGWin: or(p.GetWindowBits(), brotliWindow)}
	return &library{"br", "brotli", func() encoder { return brotli.NewWriterOptions(io.Discard, o) }}
}

// zstdWindow is how much an encoder looks back on, and holds.
const zstdWindow = 1 << 20

func newZstd(p *zstdv3.Zstd) (*library, error) {
	if p.GetDictionary() != nil {
		return nil, errors.New("dictionary: is not supported")
	}
	options := []zstd.EOption{
		zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(or(p.GetCompressionLevel(), zstdLevel))), zstd.WithEncoderCRC(p.GetEnableChecksum()),
		zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true), zstd.WithWindowSize(zstdWindow),
	}
	if _, err := zstd.NewWriter(io.Discard, options...); err != nil {
		return nil, err
	}
	return &library{"zstd", "zstd", func() encoder {
		w, err := zstd.NewWriter(io.Discard, options...)
		if err != nil { // the same options were fine before
			return broken{err}
		}
		return w
	}}, nil
}

// broken is an encoder that could not be made.
type broken struct{ err error }

func (b broken) Write([]byte) (int, error) { return 0, b.err }
func (b broken) Flush() error              { return b.err }
func (b broken) Close() error              { return b.err }
func (b broken) Reset(io.Writer)           {}
