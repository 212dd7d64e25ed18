package transport

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des" //nolint:gosec // keys in files are encrypted with it
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/pbkdf2"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // the default of PBKDF2 in PKCS #5
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"hash"
)

// parseKey finds the private key in PEM.
func parseKey(text, password []byte) (crypto.Signer, error) {
	for {
		b, rest := pem.Decode(text)
		if b == nil {
			return nil, errors.New("there is no private key in it")
		}
		if k, err := keyOf(b, password); k != nil || err != nil {
			return k, err
		}
		text = rest
	}
}

// keyOf reads a PEM block; nil if it is something else.
func keyOf(b *pem.Block, password []byte) (crypto.Signer, error) {
	der := b.Bytes
	if x509.IsEncryptedPEMBlock(b) {
		var err error
		if der, err = x509.DecryptPEMBlock(b, password); err != nil {
			return nil, err
		}
	}
	switch b.Type {
	case "EC PRIVATE KEY":
		return x509.ParseECPrivateKey(der)
	case "RSA PRIVATE KEY":
		return x509.ParsePKCS1PrivateKey(der)
	case "ENCRYPTED PRIVATE KEY":
		var err error
		if der, err = decrypt(der, password); err != nil {
			return nil, err
		}
	case "PRIVATE KEY":
	default:
		return nil, nil
	}
	k, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, err
	}
	s, ok := k.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a key of type %T cannot sign", k)
	}
	return s, nil
}

// encrypted is EncryptedPrivateKeyInfo (RFC 5958) with PBES2 (RFC 8018).
type encrypted struct {
	Algorithm struct {
		ID     asn1.ObjectIdentifier
		Params struct {
			KDF struct {
				ID     asn1.ObjectIdentifier
				Params pbkdf2Params
			}
			Cipher struct {
				ID asn1.ObjectIdentifier
				IV []byte
			}
		}
	}
	Data []byte
}

type pbkdf2Params struct {
	Salt       []byte
	Iterations int
	Length     int                      `asn1:"optional"`
	PRF        pkix.AlgorithmIdentifier `asn1:"optional"`
}

var (
	errScheme   = errors.New("it is encrypted in a way that is not supported: use PBES2 with PBKDF2 and AES")
	errPassword = errors.New("the password does not fit")
)

// decrypt decrypts PKCS #8 in PBES2, as openssl makes it.
func decrypt(der, password []byte) ([]byte, error) {
	var e encrypted
	if _, err := asn1.Unmarshal(der, &e); err != nil {
		return nil, errScheme
	}
	c := e.Algorithm.Params.Cipher
	size, build := blockCipher(c.ID)
	prf := digest(e.Algorithm.Params.KDF.Params.PRF.Algorithm)
	if build == nil || prf == nil || e.Algorithm.Params.KDF.Params.Iterations < 1 || e.Algorithm.Params.KDF.Params.Iterations > 10_000_000 {
		return nil, errScheme
	}
	kdf := e.Algorithm.Params.KDF.Params
	key, err := pbkdf2.Key(prf, string(password), kdf.Salt, kdf.Iterations, size)
	if err != nil {
		return nil, err
	}
	block, err := build(key)
	if err != nil {
		return nil, err
	}
	if len(c.IV) != block.BlockSize() || len(e.Data) == 0 || len(e.Data)%block.BlockSize() != 0 {
		return nil, errScheme
	}
	cipher.NewCBCDecrypter(block, c.IV).CryptBlocks(e.Data, e.Data)
	n := int(e.Data[len(e.Data)-1])
	if n == 0 || n > block.BlockSize() || !bytes.Equal(e.Data[len(e.Data)-n:], bytes.Repeat([]byte{byte(n)}, n)) {
		return nil, errPassword
	}
	return e.Data[:len(e.Data)-n], nil
}

func blockCipher(id asn1.ObjectIdentifier) (size int, f func([]byte) (cipher.Block, error)) {
	switch id.String() {
	case "2.16.840.1.101.3.4.1.2":
		return 16, aes.NewCipher
	case "2.16.840.1.101.3.4.1.22":
		return 24, aes.NewCipher
	case "2.16.840.1.101.3.4.1.42":
		return 32, aes.NewCipher
	case "1.2.840.113549.3.7":
		return 24, des.NewTripleDESCipher
	}
	return 0, nil
}

func digest(id asn1.ObjectIdentifier) func() hash.Hash {
	switch id.String() {
	case "", "1.2.840.113549.2.7":
		return sha1.New
	case "1.2.840.113549.2.9":
		return sha256.New
	case "1.2.840.113549.2.10":
		return sha512.New384
	case "1.2.840.113549.2.11":
		return sha512.New
	}
	return nil
}

// checkKey refuses keys that Envoy refuses.
func checkKey(k crypto.PublicKey) error {
	switch k := k.(type) {
	case *rsa.PublicKey:
		if k.N.BitLen() < 2048 {
			return errors.New("only RSA certificates with 2048-bit or larger keys are supported")
		}
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P224() {
			return errors.New("only P-256, P-384 or P-521 ECDSA certificates are supported")
		}
	}
	return nil
}
