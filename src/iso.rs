//! ISO 9660 writer and reader for the seed: a few flat files, label `cidata`, Rock Ridge and Joliet, deterministic.
