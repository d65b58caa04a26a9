"""The commands of `carillon`: one file each, in a package for each kind."""
