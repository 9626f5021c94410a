// Verify checks an exported log with software that is not panward's.
//
//	verify VKEY FOLDER [OLD-CHECKPOINT]...
//
// All hashes, proofs and signatures are computed and checked by golang.org/x/mod/sumdb: the code
// with which the go command checks Go's checksum database. What is here only finds files and
// takes them apart: tiles and checkpoints of C2SP differ from that database's in their addresses
// and first line.
//
// It ends with 0 if the checkpoint is signed, every tile and entry is the one that it covers, and
// the log extends every old checkpoint (those given, and those in FOLDER/checkpoints); with 1 and
// the reason otherwise.
package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const (
	tileHeight = 8
	tileWidth  = 1 << tileHeight
	// How a checkpoint of Go's database begins, in the place of an origin.
	firstLine = "go.sum database tree\n"
)

// exported is a folder as C2SP tlog-tiles has it.
type exported struct {
	folder string
	read   map[string][]byte
}

func (log *exported) Height() int { return tileHeight }

func (log *exported) SaveTiles(tiles []tlog.Tile, data [][]byte) {}

func (log *exported) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, tile := range tiles {
		data, err := log.readFile(pathOf(tile))
		if err != nil {
			return nil, err
		}
		all = append(all, data)
	}
	return all, nil
}

func (log *exported) readFile(path string) ([]byte, error) {
	if data, ok := log.read[path]; ok {
		return data, nil
	}
	data, err := os.ReadFile(filepath.Join(log.folder, path))
	if err == nil {
		log.read[path] = data
	}
	return data, err
}

// pathOf leaves out the height, which C2SP fixes, and renames the level of the entries.
func pathOf(tile tlog.Tile) string {
	path := strings.TrimPrefix(tile.Path(), fmt.Sprintf("tile/%d/", tileHeight))
	if tile.L == -1 {
		path = "entries" + strings.TrimPrefix(path, "data")
	}
	return "tile/" + path
}

// readCheckpoint opens a signed checkpoint of the log.
func readCheckpoint(path string, verifier note.Verifier) (tlog.Tree, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return tlog.Tree{}, err
	}
	opened, err := note.Open(raw, note.VerifierList(verifier))
	if err != nil {
		return tlog.Tree{}, err
	}
	rest := strings.TrimPrefix(opened.Text, verifier.Name()+"\n")
	if rest == opened.Text {
		return tlog.Tree{}, errors.New("it is of another log")
	}
	tree, err := tlog.ParseTree([]byte(firstLine + rest))
	if err != nil {
		return tlog.Tree{}, err
	}
	if string(tlog.FormatTree(tree)) != firstLine+rest {
		return tlog.Tree{}, errors.New("it is not written as it must be")
	}
	return tree, nil
}

// tilesOf names the tiles of one level, or for -1 the bundles of entries.
func tilesOf(size int64, level int) []tlog.Tile {
	var tiles []tlog.Tile
	nodes := size
	if level > 0 {
		nodes = size >> (tileHeight * level)
	}
	for first := int64(0); first < nodes; first += tileWidth {
		width := nodes - first
		if width > tileWidth {
			width = tileWidth
		}
		number := first / tileWidth
		tiles = append(tiles, tlog.Tile{H: tileHeight, L: level, N: number, W: int(width)})
	}
	return tiles
}

// checkTiles compares every tile with the hashes that the root vouches for.
func checkTiles(tree tlog.Tree, log *exported, hashes tlog.HashReader) error {
	root, err := tlog.TreeHash(tree.N, hashes)
	if err != nil {
		return err
	}
	if root != tree.Hash {
		return errors.New("the tiles have another root than the checkpoint")
	}
	for level := 0; tree.N>>(tileHeight*level) > 0; level++ {
		for _, tile := range tilesOf(tree.N, level) {
			stored, err := log.readFile(pathOf(tile))
			if err != nil {
				return err
			}
			proven, err := tlog.ReadTileData(tile, hashes)
			if err != nil {
				return err
			}
			if !bytes.Equal(stored, proven) {
				return fmt.Errorf("%s is not a tile of this log", pathOf(tile))
			}
		}
	}
	return nil
}

// checkEntries proves of every entry that the checkpoint covers it at its index.
func checkEntries(tree tlog.Tree, log *exported, hashes tlog.HashReader) error {
	for _, tile := range tilesOf(tree.N, -1) {
		bundle, err := log.readFile(pathOf(tile))
		if err != nil {
			return err
		}
		delete(log.read, pathOf(tile))
		for at := 0; at < tile.W; at++ {
			entry, rest, err := firstEntry(bundle)
			if err != nil {
				return fmt.Errorf("%s: %w", pathOf(tile), err)
			}
			bundle = rest
			index := tile.N*tileWidth + int64(at)
			proof, err := tlog.ProveRecord(tree.N, index, hashes)
			if err != nil {
				return err
			}
			err = tlog.CheckRecord(proof, tree.N, tree.Hash, index, tlog.RecordHash(entry))
			if err != nil {
				return fmt.Errorf("entry %d: %w", index, err)
			}
		}
		if len(bundle) != 0 {
			return fmt.Errorf("%s has more entries than it may", pathOf(tile))
		}
	}
	return nil
}

// firstEntry cuts the first entry off a bundle.
func firstEntry(bundle []byte) (entry, rest []byte, err error) {
	if len(bundle) < 2 {
		return nil, nil, errors.New("it has fewer entries than it must")
	}
	length := int(binary.BigEndian.Uint16(bundle))
	if len(bundle) < 2+length {
		return nil, nil, errors.New("it is cut short")
	}
	return bundle[2 : 2+length], bundle[2+length:], nil
}

// checkExtends proves that the log is an old one with entries appended.
func checkExtends(tree, old tlog.Tree, hashes tlog.HashReader) error {
	if old.N == 0 {
		return nil
	}
	proof, err := tlog.ProveTree(tree.N, old.N, hashes)
	if err != nil {
		return err
	}
	return tlog.CheckTree(proof, tree.N, tree.Hash, old.N, old.Hash)
}

func verify(vkey, folder string, held []string) error {
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return err
	}
	tree, err := readCheckpoint(filepath.Join(folder, "checkpoint"), verifier)
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	if tree.N == 0 {
		return errors.New("checkpoint: there is nothing to verify")
	}
	log := &exported{folder, map[string][]byte{}}
	hashes := tlog.TileHashReader(tree, log)
	if err := checkTiles(tree, log, hashes); err != nil {
		return err
	}
	if err := checkEntries(tree, log, hashes); err != nil {
		return err
	}
	kept, err := os.ReadDir(filepath.Join(folder, "checkpoints"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, file := range kept {
		held = append(held, filepath.Join(folder, "checkpoints", file.Name()))
	}
	for _, path := range held {
		old, err := readCheckpoint(path, verifier)
		if err == nil {
			err = checkExtends(tree, old, hashes)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	fmt.Printf("%d entries, root %s, extends %d checkpoints\n", tree.N, tree.Hash, len(held))
	return nil
}

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: verify VKEY FOLDER [OLD-CHECKPOINT]...")
		os.Exit(2)
	}
	if err := verify(os.Args[1], os.Args[2], os.Args[3:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
