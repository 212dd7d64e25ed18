// Package format is Envoy's substitution formatter: text and JSON with command operators such as %REQ(:PATH)% in it, compiled once
// and appended per stream. Access logs, header additions, local replies and others use it.
//
// It knows the operators of Envoy 1.40 and what they print for a missing value. Refused are CEL, TYPED_CEL and DOWNSTREAM_CX_RTT,
// and the formatter extensions other than metadata and req_without_query.
package format

import "github.com/outrigger-proxy/outrigger/internal/stream"

// Options say how a text is compiled. The zero Options are what an access log format has.
type Options struct {
	// OmitEmpty prints nothing, instead of "-", for an operator that has no value.
	OmitEmpty bool

	withoutQuery bool // the req_without_query extension is there
}

// Template is a compiled format. It is immutable and for all workers.
type Template struct {
	pieces      []piece
	json        *node // instead of pieces
	missing     string
	contentType string
}

// piece is a literal or an operator.
type piece struct {
	literal string // where op is nil
	op      *operator
}

// Default returns Envoy's default format of access logs, with its newline.
func Default() *Template {
	t, err := Compile(defaultFormat, Options{})
	if err != nil {
		panic(err) // a constant
	}
	return t
}

const defaultFormat = `[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" ` +
	`%RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% ` +
	`%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" ` +
	`"%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%"` + "\n"

// Compile compiles a text format. The error says what is wrong in Envoy's words.
func Compile(text string, o Options) (*Template, error) {
	pieces, err := parse(text, o)
	if err != nil {
		return nil, err
	}
	return &Template{pieces: pieces, missing: missingText(o), contentType: "text/plain"}, nil
}

func missingText(o Options) string {
	if o.OmitEmpty {
		return ""
	}
	return "-"
}

// Append appends what the template says of s. It does not allocate for the usual operators.
func (t *Template) Append(b []byte, s *stream.Stream) []byte {
	if t.json != nil {
		b, _ = t.json.append(b, s, t.missing)
		return append(b, '\n')
	}
	return appendPieces(b, s, t.pieces, t.missing)
}

func appendPieces(b []byte, s *stream.Stream, pieces []piece, missing string) []byte {
	for i := range pieces {
		p := &pieces[i]
		if p.op == nil {
			b = append(b, p.literal...)
			continue
		}
		var ok bool
		from := len(b)
		if b, ok = p.op.appendText(b, s); !ok {
			b = append(b[:from], missing...)
		}
	}
	return b
}

// Literal returns the text of a template that has no operator.
func (t *Template) Literal() (string, bool) {
	switch {
	case t.json != nil, len(t.pieces) > 1:
		return "", false
	case len(t.pieces) == 0:
		return "", true
	}
	return t.pieces[0].literal, t.pieces[0].op == nil
}

// ContentType is the content type of what Append makes: as configured, else application/json for JSON and text/plain for text.
func (t *Template) ContentType() string { return t.contentType }

// operator is a command with its parameters.
type operator struct {
	text   func(b []byte, s *stream.Stream) ([]byte, bool) // false: it has no value
	json   func(b []byte, s *stream.Stream) ([]byte, bool) // nil: text is a number, or is to be quoted
	number bool
	max    int // bytes of text; -1: no limit
}

func (o *operator) appendText(b []byte, s *stream.Stream) ([]byte, bool) {
	from := len(b)
	b, ok := o.text(b, s)
	if ok && o.max >= 0 && len(b)-from > o.max {
		b = b[:from+o.max]
	}
	return b, ok
}

// appendJSON appends a JSON value. What fails may have been begun: the caller cuts it off.
func (o *operator) appendJSON(b []byte, s *stream.Stream) ([]byte, bool) {
	if o.json != nil {
		return o.json(b, s)
	}
	from := len(b)
	b, ok := o.appendText(b, s)
	if ok && !o.number {
		b = quoteTail(b, from)
	}
	return b, ok
}
