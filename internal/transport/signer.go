package transport

import (
	stdcontext "context"
	"crypto"
	"crypto/tls"
	"errors"
	"io"

	"github.com/outrigger-proxy/outrigger/internal/fiber"
)

// awaited is the certificate with a key that signs on a goroutine: an RSA signature holds up nobody else on the worker.
func (i *identity) awaited(w *fiber.Worker) *tls.Certificate {
	c := i.cert
	c.PrivateKey = &awaitedKey{i.cert.PrivateKey.(crypto.Signer), w}
	return &c
}

type awaitedKey struct {
	crypto.Signer

	w *fiber.Worker
}

func (k *awaitedKey) Sign(rand io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	return fiber.Await(k.w, func(stdcontext.Context) ([]byte, error) { return k.Signer.Sign(rand, digest, o) })
}

// Decrypt is for RSA key exchange, which is off unless cipher_suites asks for it.
func (k *awaitedKey) Decrypt(rand io.Reader, text []byte, o crypto.DecrypterOpts) ([]byte, error) {
	d, ok := k.Signer.(crypto.Decrypter)
	if !ok {
		return nil, errors.New("tls: the key cannot decrypt")
	}
	return fiber.Await(k.w, func(stdcontext.Context) ([]byte, error) { return d.Decrypt(rand, text, o) })
}
