"""What the use cases need from the world, as Protocols named by what they are for."""
