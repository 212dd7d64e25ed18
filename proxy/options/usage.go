package options

import (
	"slices"
	"strings"
)

// brief lists the flags in brackets, wrapped at 75 columns, as the first part of the usage.
func brief(program string, flags []flag) string {
	line := "   " + program + " "
	indent := strings.Repeat(" ", len(line)+1)
	var b strings.Builder
	for _, f := range public(flags) {
		for _, word := range f.words() {
			if len(line)+1+len(word) > 75 {
				b.WriteString(line + "\n")
				line = indent + word
				continue
			}
			line += " " + word
		}
	}
	b.WriteString(line)
	return b.String()
}

// public are the flags that Envoy has.
func public(flags []flag) []flag {
	return slices.DeleteFunc(slices.Clone(flags), func(f flag) bool { return f.own })
}

// words is the flag in brackets, in pieces that do not break.
func (f *flag) words() []string {
	name := "--" + f.name
	if f.short != "" {
		name = "-" + f.short
	}
	switch {
	case f.repeated:
		return []string{"[" + name, "<" + f.kind + ">]", "..."}
	case f.kind != "":
		return []string{"[" + name, "<" + f.kind + ">]"}
	}
	return []string{"[" + name + "]"}
}

// usage is the whole help.
func usage(program string, flags []flag) string {
	var b strings.Builder
	b.WriteString("\nUSAGE: \n\n" + brief(program, flags) + "\n\n\nWhere: \n\n")
	for _, f := range public(flags) {
		b.WriteString("   " + f.title() + "\n")
		for paragraph := range strings.SplitSeq(f.help, "\n") {
			b.WriteString(wrap(paragraph))
		}
		b.WriteString("\n")
	}
	b.WriteString("\n   outrigger\n\n")
	return b.String()
}

func (f *flag) title() string {
	value := ""
	if f.kind != "" {
		value = " <" + f.kind + ">"
	}
	title := "--" + f.name + value
	if f.short != "" {
		title = "-" + f.short + value + ",  " + title
	}
	if f.repeated {
		title += "  (accepted multiple times)"
	}
	return title
}

// wrap breaks a paragraph into lines of at most 70 columns and indents them. A last line must be shorter: so breaks Envoy's parser.
func wrap(s string) string {
	const indent, limit = "     ", 70
	if s == "" {
		return "\n"
	}
	var b strings.Builder
	line := ""
	words := strings.Split(s, " ")
	for i, word := range words {
		length := len(line) + 1 + len(word)
		if line != "" && (length > limit || length == limit && i == len(words)-1) {
			b.WriteString(indent + line + "\n")
			line = word
			continue
		}
		line = strings.TrimPrefix(line+" "+word, " ")
	}
	b.WriteString(indent + line + "\n")
	return b.String()
}
