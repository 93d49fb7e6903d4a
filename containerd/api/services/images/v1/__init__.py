"""Generated from the .proto files here by `make protos`; do not edit."""
