package mutation

import (
	"errors"
	"fmt"
	"strings"

	mutationrulesv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/outrigger-proxy/outrigger/internal/format"
	"github.com/outrigger-proxy/outrigger/internal/match"
)

// Compile compiles what route configurations say: additions (request_headers_to_add, response_headers_to_add) and removals. Pseudo
// headers and Host cannot be changed so. Errors begin with headers_to_add[2] or headers_to_remove[0], so that a caller completes the
// path by "request_" or "response_". Nothing to do is a nil List.
func Compile(add []*corev3.HeaderValueOption, remove []string) (*List, error) {
	if len(add)+len(remove) == 0 {
		return nil, nil
	}
	l := &List{}
	for i, p := range add {
		o, err := compileOption(p)
		if err == nil && isPseudo(o.name) {
			err = errPseudo
		}
		if err != nil {
			return nil, fmt.Errorf("headers_to_add[%d].%w", i, err)
		}
		l.add = append(l.add, o)
	}
	for i, name := range remove {
		name = strings.ToLower(name)
		if isPseudo(name) {
			return nil, fmt.Errorf("headers_to_remove[%d]: :-prefixed or host headers may not be removed", i)
		}
		l.remove = append(l.remove, name)
	}
	return l, nil
}

var errPseudo = errors.New("header.key: :-prefixed or host headers may not be modified")

func isPseudo(name string) bool { return strings.HasPrefix(name, ":") || name == "host" }

// CompileMutations compiles an ordered list of mutations (envoy.config.common.mutation_rules.v3.HeaderMutation). They are applied one
// after the other, each to what the ones before it left. Errors begin with the index in brackets.
func CompileMutations(list []*mutationrulesv3.HeaderMutation) (*List, error) {
	if len(list) == 0 {
		return nil, nil
	}
	l := &List{}
	for i, p := range list {
		t, err := compileStep(p)
		if err != nil {
			return nil, fmt.Errorf("[%d].%w", i, err)
		}
		l.steps = append(l.steps, t)
	}
	return l, nil
}

func compileStep(p *mutationrulesv3.HeaderMutation) (step, error) {
	switch a := p.GetAction().(type) {
	case *mutationrulesv3.HeaderMutation_Remove:
		name := strings.ToLower(a.Remove)
		if isPseudo(name) {
			return step{}, errors.New("remove: :-prefixed or host headers may not be removed")
		}
		return step{remove: name}, nil
	case *mutationrulesv3.HeaderMutation_RemoveOnMatch_:
		m, err := match.CompileString(a.RemoveOnMatch.GetKeyMatcher())
		if err != nil {
			return step{}, fmt.Errorf("remove_on_match.key_matcher.%w", err)
		}
		return step{matches: &m}, nil
	case *mutationrulesv3.HeaderMutation_Append:
		o, err := compileOption(a.Append)
		if err == nil && isPseudo(o.name) {
			err = errPseudo
		}
		if err != nil {
			return step{}, fmt.Errorf("append.%w", err)
		}
		return step{add: o}, nil
	}
	return step{}, errors.New("action: must be one of remove, append and remove_on_match")
}

func compileOption(p *corev3.HeaderValueOption) (option, error) {
	h := p.GetHeader()
	o := option{name: strings.ToLower(h.GetKey()), keepEmpty: p.GetKeepEmptyValue()}
	if !validName(o.name) {
		return o, fmt.Errorf("header.key: %q is not a header name", h.GetKey())
	}
	var err error
	if o.action, err = compileAction(p); err != nil {
		return o, err
	}
	t, err := format.Compile(modernize(h.GetValue()), format.Options{OmitEmpty: true})
	if err != nil {
		return o, fmt.Errorf("header.value: %w", err)
	}
	if text, ok := t.Literal(); ok {
		o.value = text
	} else {
		o.template = t
	}
	return o, nil
}

func compileAction(p *corev3.HeaderValueOption) (action, error) {
	legacy := p.GetAppend()
	switch {
	case legacy != nil && p.GetAppendAction() != corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD:
		return 0, errors.New("append_action: Both append and append_action are set and it's not allowed")
	case legacy != nil && !legacy.GetValue():
		return overwriteIfExistsOrAdd, nil
	}
	return action(p.GetAppendAction()), nil
}

func validName(name string) bool {
	rest := strings.TrimPrefix(name, ":")
	for i := range len(rest) {
		if c := rest[i]; c <= ' ' || c >= 0x7f || strings.IndexByte("\"(),/:;<=>?@[\\]{}", c) >= 0 {
			return false
		}
	}
	return rest != ""
}

// modernize rewrites the operators of old that Envoy still takes in header values: %DYNAMIC_METADATA(["ns", "key"])%,
// %UPSTREAM_METADATA(["ns", "key"])% and %PER_REQUEST_STATE(key)%.
func modernize(value string) string {
	for _, name := range []string{"%DYNAMIC_METADATA(", "%UPSTREAM_METADATA("} {
		value = rewrite(value, name+"[", "])%", func(list string) string {
			var path []string
			for part := range strings.SplitSeq(list, ",") {
				path = append(path, strings.Trim(strings.TrimSpace(part), `"`))
			}
			return name + strings.Join(path, ":") + ")%"
		})
	}
	return rewrite(value, "%PER_REQUEST_STATE(", ")%", func(key string) string { return "%FILTER_STATE(" + key + ":PLAIN)%" })
}

// rewrite replaces each open...end by what by makes of the inside.
func rewrite(value, open, end string, by func(inside string) string) string {
	out := ""
	for {
		before, rest, ok := strings.Cut(value, open)
		inside, after, closed := strings.Cut(rest, end)
		if !ok || !closed {
			return out + value
		}
		out += before + by(inside)
		value = after
	}
}
