package blockcolumns_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block/blockcolumns"
	"github.com/hindsight-io/hindsight/pkg/columnchunk"
)

// Objects are stored, so each version reads those of version 1: the one in testdata must
// always give the samples that are there as text. It has all forms of chunks.
func TestRead_OfTheObjectOfVersion1(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("testdata", "columns-v1-*"))
	require.NoError(t, err)
	require.Len(t, files, 1)
	o := object{}
	var ok bool
	o.Object, ok = blockcolumns.ParseName(filepath.Base(files[0]))
	require.True(t, ok)
	o.bytes, err = os.ReadFile(files[0])
	require.NoError(t, err)
	require.EqualValues(t, o.Size, len(o.bytes))
	want, err := os.ReadFile(filepath.Join("testdata", "samples.txt"))
	require.NoError(t, err)

	var got strings.Builder
	timeWidths, valueWidths, exceptions := map[byte]bool{}, map[byte]bool{}, [3]bool{}
	encodings := map[chunkenc.Encoding]bool{}
	for _, name := range []string{"counter", "left_out", "small"} {
		m, found, err := o.metric(name)
		require.NoError(t, err)
		require.True(t, found)
		require.Equal(t, name == "left_out", m.LeftOut)
		answers, err := o.find(name)
		require.NoError(t, err)
		got.WriteString(text(answers))
		for _, a := range answers {
			for _, c := range a.chunks {
				if encodings[c.Encoding] = true; c.Encoding == columnchunk.Encoding {
					timeWidths[c.Bytes[3]], valueWidths[c.Bytes[4]] = true, true
					for i := range exceptions {
						exceptions[i] = exceptions[i] || c.Bytes[5+i] > 0
					}
				}
			}
		}
	}
	require.Equal(t, string(want), got.String())
	require.Equal(t, map[byte]bool{0: true, 1: true, 2: true, 3: true, 4: true}, timeWidths)
	require.Equal(t, map[byte]bool{0: true, 1: true, 2: true, 3: true, 4: true, 5: true}, valueWidths)
	require.Equal(t, [3]bool{true, true, true}, exceptions)
	require.Equal(t, map[chunkenc.Encoding]bool{columnchunk.Encoding: true, chunkenc.EncXOR: true, chunkenc.EncXOR2: true}, encodings)
}
