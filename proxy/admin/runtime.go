package admin

import (
	"encoding/json"
	"net/http"
)

// runtimeEntry is how /runtime shows a key.
type runtimeEntry struct {
	FinalValue  string   `json:"final_value"`
	LayerValues []string `json:"layer_values"`
}

func runtimeValues(s *Server, w *response, _ *http.Request) {
	page := struct {
		Entries map[string]*runtimeEntry `json:"entries"`
		Layers  []string                 `json:"layers"`
	}{Entries: map[string]*runtimeEntry{}, Layers: []string{}}
	layers := s.Runtime.Load().Layers()
	for i, l := range layers {
		page.Layers = append(page.Layers, l.Name)
		for key, value := range l.Values {
			e := page.Entries[key]
			if e == nil {
				e = &runtimeEntry{LayerValues: make([]string, len(layers))}
				page.Entries[key] = e
			}
			e.FinalValue, e.LayerValues[i] = value, value
		}
	}
	raw, err := json.MarshalIndent(page, "", " ")
	if err != nil {
		w.failf(http.StatusInternalServerError, "%v", err)
		return
	}
	w.contentType = typeJSON
	_, _ = w.Write(append(raw, '\n'))
}

func runtimeModify(s *Server, w *response, r *http.Request) {
	if err := r.ParseForm(); err != nil || len(r.Form) == 0 {
		w.failf(http.StatusBadRequest, "usage: /runtime_modify?key1=value1&key2=value2&keyN=valueN\n"+
			"       or send the parameters as form values\nuse an empty value to remove a previously added override\n")
		return
	}
	values := map[string]string{}
	for key := range r.Form {
		values[key] = r.Form.Get(key)
	}
	if err := s.Runtime.Modify(values); err != nil {
		w.failf(http.StatusServiceUnavailable, "No admin layer specified") // the only way to fail, in Envoy's words
		return
	}
	w.WriteString("OK\n")
}
